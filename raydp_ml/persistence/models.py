"""Torch and Keras objects among the parameters, written without pickle.

A torch module is written as its class, the constructor arguments it kept as attributes and, for containers, its
children; the weights go to a safetensors file. Whether that describes the module is not assumed: it is built again on
torch's ``meta`` device at save time, and a module whose copy prints differently or has other weights is refused.
Keras objects are written by Keras itself; every module named in what it wrote is checked before Keras reads it back.
"""

from __future__ import annotations

import inspect
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from raydp_ml.errors import InvalidValueError, require
from raydp_ml.persistence.values import (
    Attachments,
    CannotEncodeError,
    Trust,
    TrustEverything,
    decode,
    encode,
    qualified_name,
)

__all__ = ["check_keras_archive", "decode_model", "encode_model"]

# Larger tensors among constructor arguments would be weights in the wrong place.
_MAX_TENSOR = 100_000
# torch's recurrent layers take (*args, **kwargs); these are the arguments that they keep.
_RECURRENT = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")


def encode_model(value: Any, attachments: Attachments) -> dict[str, Any] | None:
    """The written form of a torch or Keras object, or None for anything else.

    Parameters
    ----------
    value : object
        A parameter's value.
    attachments : Attachments
        Where weights are written.

    Returns
    -------
    dict or None
        A tagged object for :func:`decode_model`.

    Examples
    --------
    >>> from pathlib import Path
    >>> from raydp_ml.persistence.values import Attachments
    >>> from raydp_ml.persistence.models import encode_model
    >>> encode_model("adam", Attachments(Path("unused"))) is None
    True
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        if isinstance(value, torch.nn.Module):
            return _encode_module(value, attachments)
        if isinstance(value, torch.optim.Optimizer):
            return _encode_optimizer(value, attachments)
        if isinstance(value, torch.dtype):
            return {"$torch_dtype": str(value).removeprefix("torch.")}
        if isinstance(value, torch.Tensor):
            return _encode_tensor(value)
    keras = sys.modules.get("keras")
    if keras is not None and hasattr(keras, "KerasTensor"):
        if isinstance(value, keras.Model):
            name, path = attachments.new(".keras")
            value.save(path)
            return {"$keras_model": name}
        if callable(getattr(value, "get_config", None)) and type(value).__module__.split(".")[0] == "keras":
            return {"$keras": keras.saving.serialize_keras_object(value)}
    return None


def decode_model(tag: str, body: Any, attachments: Attachments, trust: Trust) -> Any:
    """The object that :func:`encode_model` wrote.

    Parameters
    ----------
    tag : str
        The key of the written form.
    body : object
        What belongs to it.
    attachments : Attachments
        The saved directory's files.
    trust : Trust
        Which names may be imported.

    Returns
    -------
    object
        The module, optimizer, dtype, tensor or Keras object.
    """
    if tag == "$module":
        return _decode_module(body, attachments, trust)
    if tag == "$optimizer":
        return _decode_optimizer(body, attachments, trust)
    if tag == "$torch_dtype":
        torch = require("torch", "torch")
        dtype = getattr(torch, str(body), None)
        if not isinstance(dtype, torch.dtype):
            raise InvalidValueError(f"the saved directory names a torch dtype {body!r}, which there is not")
        return dtype
    if tag == "$tensor":
        torch = require("torch", "torch")
        dtype = decode({"$torch_dtype": body["dtype"]}, attachments, trust)
        return torch.tensor(body["data"], dtype=dtype).reshape(body["shape"])
    if tag == "$keras_model":
        path = attachments.find(body)
        own = check_keras_archive(path, trust)
        keras = require("keras", "tensorflow")
        return keras.saving.load_model(path, custom_objects=own, safe_mode=True)
    if tag == "$keras":
        own = trust.objects | _check_keras_config(body, trust)
        keras = require("keras", "tensorflow")
        return keras.saving.deserialize_keras_object(body, custom_objects=own, safe_mode=True)
    raise InvalidValueError(f"the saved directory has a value of kind {tag!r}, which this version does not know")


def _encode_tensor(tensor: Any) -> dict[str, Any]:
    if tensor.numel() > _MAX_TENSOR:
        raise CannotEncodeError(f"a tensor of {tensor.numel()} elements")
    plain = tensor.detach().cpu()
    dtype = str(plain.dtype).removeprefix("torch.")
    return {"$tensor": {"dtype": dtype, "shape": list(plain.shape), "data": plain.ravel().tolist()}}


def _encode_optimizer(optimizer: Any, attachments: Attachments) -> dict[str, Any]:
    """Class and settings of an optimizer; what it optimises is bound again when it is used."""
    if len(optimizer.param_groups) != 1:
        raise CannotEncodeError(f"a {qualified_name(type(optimizer))} with several parameter groups")
    accepted = inspect.signature(type(optimizer).__init__).parameters
    settings = {key: value for key, value in optimizer.param_groups[0].items() if key != "params" and key in accepted}
    body = {"class": qualified_name(type(optimizer)), "settings": encode(settings, attachments)}
    return {"$optimizer": body}


def _decode_optimizer(body: dict[str, Any], attachments: Attachments, trust: Trust) -> Any:
    torch = require("torch", "torch")
    kind = trust.resolve(body["class"])
    if not issubclass(kind, torch.optim.Optimizer):
        raise trust.refuse(body["class"])
    return kind([torch.nn.Parameter(torch.zeros(1))], **decode(body["settings"], attachments, trust))


def _encode_module(module: Any, attachments: Attachments) -> dict[str, Any]:
    torch = sys.modules["torch"]
    from safetensors.torch import save_file

    body = _describe_module(module, attachments)
    try:
        with torch.device("meta"):
            again = _build_module(body, attachments, TrustEverything())
            _set_dtype(again, body)
    except Exception as error:  # the constructor of any class may run here; one that fails has not kept its arguments
        raise CannotEncodeError(
            f"an instance of {body['class']}, which cannot be built again from its attributes ({error})"
        ) from error
    if repr(again) != repr(module) or _shapes(again) != _shapes(module):
        raise CannotEncodeError(f"an instance of {body['class']}, which does not keep all its constructor arguments")
    weights = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in module.state_dict().items()}
    if weights:
        body["weights"], path = attachments.new(".safetensors")
        save_file(weights, path)
    body["frozen"] = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
    return {"$module": body}


def _describe_module(module: Any, attachments: Attachments) -> dict[str, Any]:
    """Class, constructor arguments and children, without weights."""
    nn = sys.modules["torch"].nn
    kind = type(module)
    floating = {str(p.dtype).removeprefix("torch.") for p in module.parameters() if p.is_floating_point()}
    body: dict[str, Any] = {"class": qualified_name(kind), "dtype": floating.pop() if len(floating) == 1 else None}
    if kind in (nn.Sequential, nn.ModuleList, nn.ModuleDict):
        body["children"] = [[name, _describe_module(child, attachments)] for name, child in module.named_children()]
        return body
    body["arguments"] = {name: encode(value, attachments) for name, value in _constructor_arguments(module, nn).items()}
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


def _build_module(body: dict[str, Any], attachments: Attachments, trust: Trust) -> Any:
    nn = require("torch", "torch").nn
    kind = trust.resolve(body["class"])
    if not issubclass(kind, nn.Module):
        raise trust.refuse(body["class"])
    if "children" in body:
        children = {name: _build_module(child, attachments, trust) for name, child in body["children"]}
        if kind is nn.ModuleList:
            return nn.ModuleList(children.values())
        if kind is nn.ModuleDict:
            return nn.ModuleDict(children)
        built = nn.Sequential()
        for name, child in children.items():
            built.add_module(name, child)
        return built
    return kind(**decode(body["arguments"], attachments, trust))


def _set_dtype(module: Any, body: dict[str, Any]) -> None:
    torch = require("torch", "torch")
    if body["dtype"] is not None:
        module.to(getattr(torch, body["dtype"]))


def _decode_module(body: dict[str, Any], attachments: Attachments, trust: Trust) -> Any:
    module = _build_module(body, attachments, trust)
    _set_dtype(module, body)
    if "weights" in body:
        load_file = require("safetensors.torch", "torch").load_file
        module.load_state_dict(load_file(attachments.find(body["weights"])))
    for name in body["frozen"]:
        module.get_parameter(name).requires_grad_(False)
    return module


def _shapes(module: Any) -> dict[str, tuple[Any, ...]]:
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in module.state_dict().items()}


def check_keras_archive(path: str | Path, trust: Trust) -> dict[str, Any]:
    """Refuse a ``.keras`` file that names classes outside Keras which the caller does not trust.

    Parameters
    ----------
    path : str or Path
        A file in Keras 3's format.
    trust : Trust
        Which other names may be used; :func:`raydp_ml.persistence.directory.current_trust` inside ``_state_from_dir``.

    Returns
    -------
    dict
        Trusted classes and functions by name, as Keras's ``custom_objects``: Keras imports no modules but its own.

    Raises
    ------
    InvalidValueError
        When the file is no Keras archive, or names another class.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise InvalidValueError(
            f"{Path(path).name} in the saved directory is not a Keras model file: {error}"
        ) from error
    return trust.objects | _check_keras_config(config, trust)


def _check_keras_config(config: Any, trust: Trust) -> dict[str, Any]:
    """The user's own classes in a configuration; raises when one of them is not trusted."""
    own: dict[str, Any] = {}
    if isinstance(config, list):
        for item in config:
            own |= _check_keras_config(item, trust)
    if not isinstance(config, dict):
        return own
    if "class_name" in config:
        module, kind = config.get("module"), config["class_name"]
        # Keras writes "builtins" for its own functions and None for what it finds by name in its own tables.
        from_keras = module in (None, "builtins") or module == "keras" or str(module).startswith("keras.")
        registered = config.get("registered_name")
        name = f"{module}.{kind}"
        if kind == "__lambda__" or (isinstance(registered, str) and ">" in registered) or not from_keras:
            trust_name = registered if from_keras and registered else name
            if not trust.covers(str(trust_name)):
                raise trust.refuse(str(trust_name))
            if not from_keras:
                own[registered or kind] = trust.resolve(name)
    for item in config.values():
        own |= _check_keras_config(item, trust)
    return own
