"""Torch objects, written without pickle; modules in :mod:`raydp_ml.persistence.codecs.torch_modules`."""

from __future__ import annotations

import inspect
from typing import Any

from raydp_ml.errors import require
from raydp_ml.persistence.codecs.codec import CannotEncodeError, Codec, Reader, Writer
from raydp_ml.persistence.codecs.torch_modules import decode_module, encode_module, torch_dtype
from raydp_ml.persistence.names import qualified_name

__all__ = ["CODEC", "TorchCodec"]

# Larger tensors among constructor arguments would be weights in the wrong place.
_MAX_TENSOR = 100_000


class TorchCodec(Codec):
    """``$module``, ``$optimizer``, ``$torch_dtype`` and ``$tensor``."""

    def encode(self, value: Any, writer: Writer) -> dict[str, Any] | None:
        torch = require("torch", "torch")
        if isinstance(value, torch.nn.Module):
            return {"$module": encode_module(value, writer)}
        if isinstance(value, torch.optim.Optimizer):
            return _encode_optimizer(value, writer)
        if isinstance(value, torch.dtype):
            return {"$torch_dtype": str(value).removeprefix("torch.")}
        if isinstance(value, torch.Tensor):
            return _encode_tensor(value, writer)
        return None

    def decode(self, tag: str, body: Any, reader: Reader) -> Any:
        if tag == "$module":
            return decode_module(body, reader)
        if tag == "$optimizer":
            return _decode_optimizer(body, reader)
        torch = require("torch", "torch")
        if tag == "$torch_dtype":
            return torch_dtype(body)
        return torch.tensor(reader.decode(body["data"]), dtype=torch_dtype(body["dtype"])).reshape(body["shape"])


CODEC = TorchCodec()


def _encode_tensor(tensor: Any, writer: Writer) -> dict[str, Any]:
    if tensor.numel() > _MAX_TENSOR:
        raise CannotEncodeError(f"a tensor of {tensor.numel()} elements")
    if tensor.is_complex() or tensor.is_quantized or tensor.layout is not require("torch", "torch").strided:
        raise CannotEncodeError(f"a tensor of dtype {tensor.dtype} and layout {tensor.layout}")
    plain = tensor.detach().cpu()
    dtype = str(plain.dtype).removeprefix("torch.")
    return {"$tensor": {"dtype": dtype, "shape": list(plain.shape), "data": writer.encode(plain.ravel().tolist())}}


def _encode_optimizer(optimizer: Any, writer: Writer) -> dict[str, Any]:
    """Class and settings of an optimizer; what it optimises is bound again when it is used."""
    if len(optimizer.param_groups) != 1:
        raise CannotEncodeError(f"a {qualified_name(type(optimizer))} with several parameter groups")
    accepted = inspect.signature(type(optimizer).__init__).parameters
    settings = {key: value for key, value in optimizer.param_groups[0].items() if key != "params" and key in accepted}
    body = {"class": qualified_name(type(optimizer)), "settings": writer.encode(settings)}
    return {"$optimizer": body}


def _decode_optimizer(body: dict[str, Any], reader: Reader) -> Any:
    torch = require("torch", "torch")
    kind = reader.trust.resolve(body["class"])
    if not issubclass(kind, torch.optim.Optimizer):
        raise reader.trust.refuse(body["class"])
    return kind([torch.nn.Parameter(torch.zeros(1))], **reader.decode(body["settings"]))
