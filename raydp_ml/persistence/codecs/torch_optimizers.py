"""Optimizers of torch and schedulers of their learning rates, written without pickle.

An optimizer holds parameters of a model, which is written on its own. It is written with the values of its parameters all the same,
because by them it is told, when it is used, which parameter of the model each of them is.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from raydp_ml.errors import InvalidValueError, require
from raydp_ml.persistence.bounded_json import check_names
from raydp_ml.persistence.codecs.codec import CannotEncodeError, Reader, Writer
from raydp_ml.persistence.names import qualified_name

__all__ = [
    "construct_optimizer",
    "decode_optimizer",
    "decode_scheduler",
    "encode_optimizer",
    "encode_scheduler",
]

_NOT_OPTIONS = ("params", "param_names")


def construct_optimizer(kind: type, groups: list[dict[str, Any]]) -> Any:
    """An optimizer whose options stand in its groups; what the constructor insists on is taken from the first.

    Parameters
    ----------
    kind : type
        A class of optimizers.
    groups : list of dict
        ``params`` and the options of each group.

    Examples
    --------
    >>> import torch
    >>> made = construct_optimizer(torch.optim.SGD, [{"params": [torch.zeros(1)], "lr": 0.5, "momentum": 0.9}])
    >>> made.param_groups[0]["momentum"]
    0.9
    """
    accepted = inspect.signature(kind).parameters
    options = {name: value for name, value in groups[0].items() if name in accepted and name not in _NOT_OPTIONS}
    made = kind([dict(group) for group in groups], **options)
    for group, wanted in zip(made.param_groups, groups, strict=True):
        group.update({name: value for name, value in wanted.items() if name not in _NOT_OPTIONS})
    return made


def encode_optimizer(optimizer: Any, writer: Writer) -> dict[str, Any]:
    """The body of ``$optimizer``: the class, the options of each group, parameters and what has been gathered.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        The optimizer.
    writer : Writer
        Where the tensors go.
    """
    torch = require("torch", "torch")
    save_file = require("safetensors.torch", "torch").save_file
    tensors: dict[str, Any] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if torch.nn.parameter.is_lazy(parameter):
                raise CannotEncodeError(f"a {qualified_name(type(optimizer))} of parameters that have no size yet")
            tensors[f"parameter.{len(tensors)}"] = parameter.detach().cpu().clone().contiguous()
    state: dict[str, Any] = {}
    for place, gathered in optimizer.state_dict()["state"].items():
        for name, value in gathered.items():
            if isinstance(value, torch.Tensor):
                tensors[f"state.{place}.{name}"] = value.detach().cpu().clone().contiguous()
            else:
                state.setdefault(str(place), {})[name] = writer.encode(value)
    file, path = writer.attachments.new(".safetensors")
    save_file(tensors, path)
    return {
        "class": qualified_name(type(optimizer)),
        "groups": [
            {
                "count": len(group["params"]),
                "options": {key: writer.encode(value) for key, value in group.items() if key not in _NOT_OPTIONS},
            }
            for group in optimizer.param_groups
        ],
        "tensors": file,
        "state": state,
    }


def decode_optimizer(body: Mapping[str, Any], reader: Reader) -> Any:
    """The optimizer that :func:`encode_optimizer` wrote.

    Parameters
    ----------
    body : mapping
        What it returned; directories that were saved before have ``settings`` instead of groups and tensors.
    reader : Reader
        The files, and which classes may be used.
    """
    torch = require("torch", "torch")
    kind = reader.trust.resolve(body["class"])
    if not issubclass(kind, torch.optim.Optimizer):
        raise reader.trust.refuse(body["class"])
    if "settings" in body:
        return kind([torch.nn.Parameter(torch.zeros(1))], **reader.decode(body["settings"]))
    tensors = require("safetensors.torch", "torch").load_file(reader.attachments.find(body["tensors"]))
    groups, count = [], 0
    for group in body["groups"]:
        check_names(group["options"], "an option")
        places = range(count, count + int(group["count"]))
        count = places.stop
        parameters = [torch.nn.Parameter(tensors[f"parameter.{place}"], requires_grad=False) for place in places]
        groups.append({"params": parameters, **{key: reader.decode(item) for key, item in group["options"].items()}})
    made = construct_optimizer(kind, groups)
    state: dict[int, dict[str, Any]] = {}
    for place, plain in body["state"].items():
        state[int(place)] = {key: reader.decode(item) for key, item in plain.items()}
    for name, tensor in tensors.items():
        if name.startswith("state."):
            _, place, key = name.split(".", 2)
            state.setdefault(int(place), {})[key] = tensor
    made.load_state_dict({"state": state, "param_groups": made.state_dict()["param_groups"]})
    return made


def encode_scheduler(scheduler: Any, writer: Writer) -> dict[str, Any]:
    """The body of ``$lr_scheduler``: the class, its optimizer, and its own attributes.

    Parameters
    ----------
    scheduler : torch.optim.lr_scheduler.LRScheduler
        The scheduler.
    writer : Writer
        Where the optimizer's tensors go.
    """
    attributes = {key: value for key, value in vars(scheduler).items() if key != "optimizer"}
    try:
        written = {key: writer.encode(value) for key, value in attributes.items()}
    except CannotEncodeError as error:
        raise CannotEncodeError(f"a {qualified_name(type(scheduler))} that holds {error}") from error
    return {
        "class": qualified_name(type(scheduler)),
        "optimizer": writer.encode(scheduler.optimizer),
        "attributes": written,
    }


def decode_scheduler(body: Mapping[str, Any], reader: Reader) -> Any:
    """The scheduler that :func:`encode_scheduler` wrote.

    Parameters
    ----------
    body : mapping
        What it returned.
    reader : Reader
        The files, and which classes may be used.
    """
    torch = require("torch", "torch")
    kind = reader.trust.resolve(body["class"])
    if not issubclass(kind, torch.optim.lr_scheduler.LRScheduler):
        raise reader.trust.refuse(body["class"])
    optimizer = reader.decode(body["optimizer"])
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InvalidValueError(f"the saved directory has a {body['class']} without an optimizer")
    check_names(body["attributes"], "an attribute")
    made = kind.__new__(kind)
    made.__dict__.update({key: reader.decode(item) for key, item in body["attributes"].items()})
    made.optimizer = optimizer
    return made
