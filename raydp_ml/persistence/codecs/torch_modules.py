"""Modules of torch, written without pickle: class, constructor arguments, children of containers, and weights.

Whether that describes a module is not assumed. It is built again on torch's ``meta`` device when it is saved and compared part
by part. Plain attributes that were set later, tied weights and buffers that the ``state_dict`` leaves out are written as well; a
module that differs in anything else (a hook, a method that was replaced, another layer) is refused with the reason.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from raydp_ml.errors import InvalidValueError, require
from raydp_ml.persistence.bounded_json import check_names
from raydp_ml.persistence.codecs.codec import CannotEncodeError, Reader, Writer
from raydp_ml.persistence.names import qualified_name

__all__ = ["decode_module", "encode_module", "set_unsaved_buffers", "torch_dtype", "torch_layout", "unsaved_buffers"]

# torch's recurrent layers take (*args, **kwargs); these are the arguments that they keep.
_RECURRENT = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
# How deep the attributes of objects are compared that have no comparison of their own.
_MAX_COMPARED = 5


def torch_dtype(name: Any) -> Any:
    """The torch dtype of this name, such as ``float32``.

    Parameters
    ----------
    name : str
        What stands in a file.
    """
    torch = require("torch", "torch")
    dtype = getattr(torch, str(name), None)
    if not isinstance(dtype, torch.dtype):
        raise InvalidValueError(f"the saved directory names a torch dtype {name!r}, which there is not")
    return dtype


def torch_layout(name: Any) -> Any:
    """The torch layout of this name, such as ``sparse_csr``.

    Parameters
    ----------
    name : str
        What stands in a file.
    """
    torch = require("torch", "torch")
    layout = getattr(torch, str(name), None)
    if not isinstance(layout, torch.layout):
        raise InvalidValueError(f"the saved directory names a torch layout {name!r}, which there is not")
    return layout


# -- writing -------------------------------------------------------------------------------------------------------


def encode_module(module: Any, writer: Writer) -> dict[str, Any]:
    """The body of ``$module``.

    Parameters
    ----------
    module : torch.nn.Module
        A module, with lazy layers or without.
    writer : Writer
        Where the weights go.

    Raises
    ------
    CannotEncodeError
        When the module would not come back as it is.
    """
    from safetensors.torch import save_file

    body = _describe(module, writer, {}, "")
    name = body["class"]
    try:
        again = _build_without_memory(body, writer.reader)
    except Exception as error:  # the constructor of any class may run here; one that fails has not kept its arguments
        raise CannotEncodeError(
            f"an instance of {name}, which cannot be built again from its attributes ({error})"
        ) from error
    if _shapes(again) != _shapes(module):
        raise CannotEncodeError(f"an instance of {name}, which does not keep all its constructor arguments")
    changed = {
        path: {key: _encode_attribute(value, key, path, name, writer) for key, value in values.items()}
        for path, values in _changed_attributes(module, again, name).items()
    }
    body["attributes"] = {path: values for path, values in changed.items() if values}
    body["tied"] = _ties_to_make(module, again, name)
    body["frozen"] = [key for key, parameter in module.named_parameters() if not parameter.requires_grad]
    buffers = unsaved_buffers(module)
    if not _unsaved_names(again) <= buffers.keys():
        raise CannotEncodeError(f"an instance of {name}, from which a buffer was taken away")
    for key, tensors in (("weights", _weights(module)), ("buffers", buffers)):
        if tensors:
            body[key], path = writer.attachments.new(".safetensors")
            save_file(tensors, path)
    return body


def _describe(module: Any, writer: Writer, seen: dict[int, str], path: str) -> dict[str, Any]:
    """Class, constructor arguments and children, without weights."""
    nn = sys.modules["torch"].nn
    if id(module) in seen:
        return {"same_as": seen[id(module)]}
    seen[id(module)] = path
    kind = type(module)
    floating = {str(p.dtype).removeprefix("torch.") for p in module.parameters() if p.is_floating_point()}
    body: dict[str, Any] = {"class": qualified_name(kind), "dtype": floating.pop() if len(floating) == 1 else None}
    if kind in (nn.Sequential, nn.ModuleList, nn.ModuleDict):
        # With duplicates, because one module may be a child several times.
        body["children"] = [
            [name, _describe(child, writer, seen, f"{path}.{name}".lstrip("."))]
            for name, child in module.named_modules(remove_duplicate=False)
            if name and "." not in name
        ]
        return body
    body["arguments"] = {name: writer.encode(value) for name, value in _constructor_arguments(module, nn).items()}
    return body


def _constructor_arguments(module: Any, nn: Any) -> dict[str, Any]:
    if isinstance(module, nn.RNNBase):
        names = [*_RECURRENT, *(["nonlinearity"] if type(module) is nn.RNN else [])]
        names += ["proj_size"] if type(module) is nn.LSTM else []
        return {name: getattr(module, name) for name in names}
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
            # torch's own classes show in attributes and weights what they do not keep; others may hide it.
            raise CannotEncodeError(
                f"an instance of {qualified_name(type(module))}, which does not keep its argument {name!r}"
            )
        if isinstance(arguments.get(name), nn.Module):
            raise CannotEncodeError(
                f"an instance of {qualified_name(type(module))}, whose attribute {name!r} is a module"
            )
    return arguments


def _changed_attributes(module: Any, again: Any, name: str) -> dict[str, dict[str, Any]]:
    """What was set after the constructor, by the path of the submodule; raises for what cannot be set again."""
    torch = sys.modules["torch"]
    mine, new = (dict(whole.named_modules(remove_duplicate=False)) for whole in (module, again))
    if mine.keys() != new.keys() or _groups(mine) != _groups(new):
        raise CannotEncodeError(f"an instance of {name}, which holds its submodules in another way than a new one does")
    own = {id(item) for item in (*module.modules(), *module.parameters(), *module.buffers())}
    internal = vars(torch.nn.Module())
    hooks = [key for key in internal if key.endswith("hooks")]
    changed: dict[str, dict[str, Any]] = {}
    for path, part in mine.items():
        where, other = f"its part {path!r}" if path else "it", vars(new[path])
        if type(part) is not type(new[path]):
            raise CannotEncodeError(f"an instance of {name}: {where} is of another class than in a new one")
        for key in hooks:
            if not _same(list(vars(part)[key].values()), list(other[key].values()), own):
                raise CannotEncodeError(f"an instance of {name}: {where} has a hook ({key.strip('_')}), which is code")
        if other.keys() - vars(part).keys():
            raise CannotEncodeError(f"an instance of {name}: {where} lacks {sorted(other.keys() - vars(part).keys())}")
        changed[path] = {
            key: value
            for key, value in vars(part).items()
            if key not in internal and not (key in other and _same(value, other[key], own))
        }
    return changed


def _encode_attribute(value: Any, key: str, path: str, name: str, writer: Writer) -> Any:
    where = f"{path}.{key}".lstrip(".")
    if not _may_be_set(key):
        raise CannotEncodeError(f"an instance of {name}, whose {where} was replaced")
    if any(isinstance(item, sys.modules["torch"].nn.Module) for item in _items(value)):
        raise CannotEncodeError(
            f"an instance of {name}, whose attribute {where} holds modules that it does not register"
        )
    try:
        return writer.encode(value)
    except CannotEncodeError as error:
        raise CannotEncodeError(
            f"an instance of {name}, whose attribute {where} was set later and is {error}"
        ) from error


def _items(value: Any) -> Iterable[Any]:
    """A value and what the lists and dicts in it hold."""
    yield value
    if isinstance(value, list | tuple | set | frozenset):
        inner: Iterable[Any] = value
    else:
        inner = value.values() if isinstance(value, dict) else ()
    for item in inner:
        yield from _items(item)


def _may_be_set(name: str) -> bool:
    """Whether an attribute is the user's own: not one that every module has."""
    module = require("torch", "torch").nn.Module
    return not (name.startswith("__") or hasattr(module, name) or name in vars(module()))


def _same(mine: Any, new: Any, own: set[int], depth: int = 0) -> bool:
    """Whether an attribute is what the constructor makes it; ``own`` are the parts of the module, which are compared elsewhere."""
    if mine is new or (id(mine) in own and type(mine) is type(new)):
        return True
    if type(mine) is not type(new) or depth > _MAX_COMPARED:
        return False
    compare = functools.partial(_same, own=own, depth=depth + 1)
    torch = sys.modules["torch"]
    if isinstance(mine, torch.Tensor | torch.nn.Module):
        return False
    if isinstance(mine, np.ndarray):
        return mine.dtype == new.dtype and np.array_equal(mine, new)
    if isinstance(mine, list | tuple):
        return len(mine) == len(new) and all(map(compare, mine, new))
    if isinstance(mine, dict):
        return mine.keys() == new.keys() and all(compare(value, new[key]) for key, value in mine.items())
    if isinstance(mine, weakref.ref | torch.utils.hooks.RemovableHandle):
        return True  # They say where something is, and there is nothing else to say of them.
    if isinstance(mine, types.MethodType):
        return mine.__func__ is new.__func__ and compare(mine.__self__, new.__self__)
    if isinstance(mine, types.FunctionType):
        cells = [[cell.cell_contents for cell in each.__closure__ or ()] for each in (mine, new)]
        return mine.__code__ is new.__code__ and compare(mine.__defaults__, new.__defaults__) and compare(*cells)
    if isinstance(mine, functools.partial):
        return all(map(compare, (mine.func, mine.args, mine.keywords), (new.func, new.args, new.keywords)))
    try:
        if bool(mine == new):
            return True
    except Exception:  # any class may define how it is compared
        return False
    return type(mine).__eq__ is object.__eq__ and hasattr(mine, "__dict__") and compare(vars(mine), vars(new))


def _groups(parts: Mapping[str, Any]) -> list[list[str]]:
    """Names that stand for one and the same object, in groups of several."""
    groups: dict[int, list[str]] = {}
    for name, part in parts.items():
        groups.setdefault(id(part), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _ties_to_make(module: Any, again: Any, name: str) -> list[list[str]]:
    """Groups of parameters that are one, where the constructor does not make them so."""
    mine, new = (_groups(dict(whole.named_parameters(remove_duplicate=False))) for whole in (module, again))
    if mine == new:
        return []
    if any(not any(set(group) <= set(other) for other in mine) for group in new):
        raise CannotEncodeError(f"an instance of {name}, whose weights are not tied as in a new one")
    return mine


def _weights(module: Any) -> dict[str, Any]:
    """Copies of what the ``state_dict`` has, without the parameters of lazy layers, which are none yet."""
    is_lazy = sys.modules["torch"].nn.parameter.is_lazy
    return {
        name: tensor.detach().cpu().clone().contiguous()
        for name, tensor in module.state_dict().items()
        if not is_lazy(tensor)
    }


def unsaved_buffers(module: Any) -> dict[str, Any]:
    """Copies of the buffers that the ``state_dict`` of a module leaves out.

    Parameters
    ----------
    module : torch.nn.Module
        The module.

    Returns
    -------
    dict of str to torch.Tensor
        For :func:`set_unsaved_buffers`.
    """
    # Copies, because safetensors refuses tensors that share memory.
    return {
        name: module.get_buffer(name).detach().cpu().clone().contiguous() for name in sorted(_unsaved_names(module))
    }


def _unsaved_names(module: Any) -> set[str]:
    return {name for name, _ in module.named_buffers(remove_duplicate=False)} - module.state_dict().keys()


def set_unsaved_buffers(module: Any, buffers: Mapping[str, Any]) -> None:
    """Give a module the buffers of :func:`unsaved_buffers`.

    Parameters
    ----------
    module : torch.nn.Module
        The module.
    buffers : mapping of str to torch.Tensor
        Buffers by name.
    """
    for name, buffer in buffers.items():
        parent, _, leaf = name.rpartition(".")
        module.get_submodule(parent).register_buffer(leaf, buffer, persistent=False)


def _shapes(module: Any) -> dict[str, tuple[Any, ...]]:
    is_lazy = sys.modules["torch"].nn.parameter.is_lazy
    return {
        name: ("lazy" if is_lazy(tensor) else tuple(tensor.shape), tensor.dtype)
        for name, tensor in module.state_dict().items()
    }


# -- reading -------------------------------------------------------------------------------------------------------


def decode_module(body: Mapping[str, Any], reader: Reader) -> Any:
    """The module that :func:`encode_module` wrote.

    Parameters
    ----------
    body : mapping
        What it returned. Directories of format version 1 have no ``attributes``, ``tied`` and ``buffers``.
    reader : Reader
        The files, and which classes may be used.

    Raises
    ------
    InvalidValueError
        When a class is not trusted, or description and weights do not belong together.
    """
    load_file = require("safetensors.torch", "torch").load_file
    weights = load_file(reader.attachments.find(body["weights"])) if "weights" in body else {}
    # A few digits in a file could otherwise ask for any amount of memory.
    wanted = {
        name: shape for name, (shape, _) in _shapes(_build_without_memory(body, reader)).items() if shape != "lazy"
    }
    if wanted != {name: tuple(tensor.shape) for name, tensor in weights.items()}:
        raise InvalidValueError(
            f"the saved weights do not belong to the {body['class']} that the saved directory describes"
        )
    module = _build(body, reader, {}, "")
    _set_dtype(module, body)
    for path, values in body.get("attributes", {}).items():
        part = module.get_submodule(path)
        check_names(values, "an attribute")
        for name, spec in values.items():
            if not _may_be_set(name):
                raise InvalidValueError(
                    f"the saved directory names an attribute {name!r} of a module, which is not its own"
                )
            setattr(part, name, reader.decode(spec))
    for first, *others in body.get("tied", []):
        for name in others:
            parent, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(parent), leaf, module.get_parameter(first))
    # Lazy layers have parameters that the file does not have; all others were compared above.
    module.load_state_dict(weights, strict=False)
    if "buffers" in body:
        set_unsaved_buffers(module, load_file(reader.attachments.find(body["buffers"])))
    for name, parameter in module.named_parameters():
        if parameter.requires_grad != (name not in body["frozen"]):
            parameter.requires_grad_(not parameter.requires_grad)
    return module


def _build_without_memory(body: Mapping[str, Any], reader: Reader) -> Any:
    with require("torch", "torch").device("meta"):
        module = _build(body, reader, {}, "")
        _set_dtype(module, body)
    return module


def _build(body: Mapping[str, Any], reader: Reader, built: dict[str, Any], path: str) -> Any:
    """A module with the weights of its constructor; ``built`` are those that there are already, by path."""
    if "same_as" in body:
        return built[body["same_as"]]
    nn = require("torch", "torch").nn
    kind = reader.trust.resolve(body["class"])
    if not issubclass(kind, nn.Module):
        raise reader.trust.refuse(body["class"])
    if "children" in body:
        children = {
            name: _build(child, reader, built, f"{path}.{name}".lstrip(".")) for name, child in body["children"]
        }
        if kind is nn.ModuleList:
            module = nn.ModuleList(children.values())
        elif kind is nn.ModuleDict:
            module = nn.ModuleDict(children)
        else:
            module = nn.Sequential()
            for name, child in children.items():
                module.add_module(name, child)
    else:
        check_names(body["arguments"], "an argument")
        module = kind(**reader.decode(body["arguments"]))
    built[path] = module
    return module


def _set_dtype(module: Any, body: Mapping[str, Any]) -> None:
    if body["dtype"] is not None:
        module.to(torch_dtype(body["dtype"]))
