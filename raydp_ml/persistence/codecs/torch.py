"""Torch objects, written without pickle.

A module is written as its class, the constructor arguments it kept as attributes and, for containers, its children; the
weights go to a safetensors file. Whether that describes the module is not assumed: it is built again on torch's ``meta``
device at save time, and a module whose copy prints differently or has other weights is refused.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any

from raydp_ml.errors import InvalidValueError, require
from raydp_ml.persistence.codecs.codec import CannotEncodeError, Codec, Reader, Writer
from raydp_ml.persistence.names import qualified_name

__all__ = ["CODEC", "TorchCodec"]

# Larger tensors among constructor arguments would be weights in the wrong place.
_MAX_TENSOR = 100_000
# torch's recurrent layers take (*args, **kwargs); these are the arguments that they keep.
_RECURRENT = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")


class TorchCodec(Codec):
    """``$module``, ``$optimizer``, ``$torch_dtype`` and ``$tensor``."""

    def encode(self, value: Any, writer: Writer) -> dict[str, Any] | None:
        torch = require("torch", "torch")
        if isinstance(value, torch.nn.Module):
            return _encode_module(value, writer)
        if isinstance(value, torch.optim.Optimizer):
            return _encode_optimizer(value, writer)
        if isinstance(value, torch.dtype):
            return {"$torch_dtype": str(value).removeprefix("torch.")}
        if isinstance(value, torch.Tensor):
            return _encode_tensor(value)
        return None

    def decode(self, tag: str, body: Any, reader: Reader) -> Any:
        if tag == "$module":
            return _decode_module(body, reader)
        if tag == "$optimizer":
            return _decode_optimizer(body, reader)
        torch = require("torch", "torch")
        if tag == "$torch_dtype":
            return _dtype(body)
        return torch.tensor(body["data"], dtype=_dtype(body["dtype"])).reshape(body["shape"])


CODEC = TorchCodec()


def _dtype(name: Any) -> Any:
    torch = require("torch", "torch")
    dtype = getattr(torch, str(name), None)
    if not isinstance(dtype, torch.dtype):
        raise InvalidValueError(f"the saved directory names a torch dtype {name!r}, which there is not")
    return dtype


def _encode_tensor(tensor: Any) -> dict[str, Any]:
    if tensor.numel() > _MAX_TENSOR:
        raise CannotEncodeError(f"a tensor of {tensor.numel()} elements")
    plain = tensor.detach().cpu()
    dtype = str(plain.dtype).removeprefix("torch.")
    return {"$tensor": {"dtype": dtype, "shape": list(plain.shape), "data": plain.ravel().tolist()}}


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


def _encode_module(module: Any, writer: Writer) -> dict[str, Any]:
    torch = sys.modules["torch"]
    from safetensors.torch import save_file

    body = _describe_module(module, writer)
    try:
        with torch.device("meta"):
            again = _build_module(body, writer.reader)
            _set_dtype(again, body)
    except Exception as error:  # the constructor of any class may run here; one that fails has not kept its arguments
        raise CannotEncodeError(
            f"an instance of {body['class']}, which cannot be built again from its attributes ({error})"
        ) from error
    if repr(again) != repr(module) or _shapes(again) != _shapes(module):
        raise CannotEncodeError(f"an instance of {body['class']}, which does not keep all its constructor arguments")
    weights = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in module.state_dict().items()}
    if weights:
        body["weights"], path = writer.attachments.new(".safetensors")
        save_file(weights, path)
    body["frozen"] = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
    return {"$module": body}


def _describe_module(module: Any, writer: Writer) -> dict[str, Any]:
    """Class, constructor arguments and children, without weights."""
    nn = sys.modules["torch"].nn
    kind = type(module)
    floating = {str(p.dtype).removeprefix("torch.") for p in module.parameters() if p.is_floating_point()}
    body: dict[str, Any] = {"class": qualified_name(kind), "dtype": floating.pop() if len(floating) == 1 else None}
    if kind in (nn.Sequential, nn.ModuleList, nn.ModuleDict):
        body["children"] = [[name, _describe_module(child, writer)] for name, child in module.named_children()]
        return body
    body["arguments"] = {name: writer.encode(value) for name, value in _constructor_arguments(module, nn).items()}
    return body


def _constructor_arguments(module: Any, nn: Any) -> dict[str, Any]:
    if isinstance(module, nn.RNNBase):
        return {name: getattr(module, name) for name in _RECURRENT if hasattr(module, name)}
    from_torch = type(module).__module__.startswith("torch.nn")
    arguments = {}
    for name, parameter in list(inspect.signature(type(module).__init__).parameters.items())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or name.startswith("_"):
            continue
        if name in ("device", "dtype") and from_torch:
            continue
        if name == "bias" and from_torch:
            arguments[name] = getattr(module, "bias", None) is not None and getattr(module, "bias", None) is not False
        elif hasattr(module, name):
            arguments[name] = getattr(module, name)
        elif parameter.default is parameter.empty or not from_torch:
            # torch's own classes show in print and weights what they do not keep; others may hide it.
            raise CannotEncodeError(
                f"an instance of {qualified_name(type(module))}, which does not keep its argument {name!r}"
            )
        if isinstance(arguments.get(name), nn.Module):
            raise CannotEncodeError(
                f"an instance of {qualified_name(type(module))}, whose attribute {name!r} is a module"
            )
    return arguments


def _build_module(body: dict[str, Any], reader: Reader) -> Any:
    nn = require("torch", "torch").nn
    kind = reader.trust.resolve(body["class"])
    if not issubclass(kind, nn.Module):
        raise reader.trust.refuse(body["class"])
    if "children" in body:
        children = {name: _build_module(child, reader) for name, child in body["children"]}
        if kind is nn.ModuleList:
            return nn.ModuleList(children.values())
        if kind is nn.ModuleDict:
            return nn.ModuleDict(children)
        built = nn.Sequential()
        for name, child in children.items():
            built.add_module(name, child)
        return built
    return kind(**reader.decode(body["arguments"]))


def _set_dtype(module: Any, body: dict[str, Any]) -> None:
    if body["dtype"] is not None:
        module.to(_dtype(body["dtype"]))


def _decode_module(body: dict[str, Any], reader: Reader) -> Any:
    module = _build_module(body, reader)
    _set_dtype(module, body)
    if "weights" in body:
        load_file = require("safetensors.torch", "torch").load_file
        module.load_state_dict(load_file(reader.attachments.find(body["weights"])))
    for name in body["frozen"]:
        module.get_parameter(name).requires_grad_(False)
    return module


def _shapes(module: Any) -> dict[str, tuple[Any, ...]]:
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in module.state_dict().items()}
