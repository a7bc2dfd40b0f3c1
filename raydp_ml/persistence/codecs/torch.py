"""Torch objects, written without pickle; modules and optimizers in files of their own."""

from __future__ import annotations

from typing import Any

from raydp_ml.errors import require
from raydp_ml.persistence.codecs.codec import CannotEncodeError, Codec, Reader, Writer
from raydp_ml.persistence.codecs.torch_modules import decode_module, encode_module, torch_dtype, torch_layout
from raydp_ml.persistence.codecs.torch_optimizers import (
    decode_optimizer,
    decode_scheduler,
    encode_optimizer,
    encode_scheduler,
)

__all__ = ["CODEC", "TorchCodec"]

# Larger tensors among constructor arguments would be weights in the wrong place.
_MAX_TENSOR = 100_000


class TorchCodec(Codec):
    """``$module``, ``$optimizer``, ``$lr_scheduler``, ``$torch_dtype``, ``$torch_layout`` and ``$tensor``."""

    def encode(self, value: Any, writer: Writer) -> dict[str, Any] | None:
        torch = require("torch", "torch")
        if isinstance(value, torch.nn.Module):
            return {"$module": encode_module(value, writer)}
        if isinstance(value, torch.optim.Optimizer):
            return {"$optimizer": encode_optimizer(value, writer)}
        if isinstance(value, torch.optim.lr_scheduler.LRScheduler):
            return {"$lr_scheduler": encode_scheduler(value, writer)}
        if isinstance(value, torch.dtype):
            return {"$torch_dtype": str(value).removeprefix("torch.")}
        if isinstance(value, torch.layout):
            return {"$torch_layout": str(value).removeprefix("torch.")}
        if isinstance(value, torch.Tensor):
            return _encode_tensor(value, writer)
        return None

    def decode(self, tag: str, body: Any, reader: Reader) -> Any:
        if tag == "$module":
            return decode_module(body, reader)
        if tag == "$optimizer":
            return decode_optimizer(body, reader)
        if tag == "$lr_scheduler":
            return decode_scheduler(body, reader)
        torch = require("torch", "torch")
        if tag == "$torch_dtype":
            return torch_dtype(body)
        if tag == "$torch_layout":
            return torch_layout(body)
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
