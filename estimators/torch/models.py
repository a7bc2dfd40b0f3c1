"""The model of one fit: made anew from the parameter ``model``, and what its ``forward`` gives."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from raydp_ml.errors import InvalidTypeError, InvalidValueError

__all__ = ["batch_norms", "build_module", "check_model", "prediction_of"]

_BATCH_NORMS = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d, torch.nn.SyncBatchNorm)


def check_model(model: Any) -> None:
    """Raise for what is no model and makes none."""
    if not isinstance(model, torch.nn.Module) and not callable(model):
        raise InvalidTypeError(f"model={model!r} must be a torch.nn.Module, a class, or a function that makes one")


def build_module(
    model: Any, n_features: int, n_outputs: int, params: Mapping[str, Any] | None = None
) -> torch.nn.Module:
    """A model of its own for one fit: a copy of an object, or what a class or function makes.

    Parameters
    ----------
    model : torch.nn.Module, class or callable
        The parameter ``model``.
    n_features, n_outputs : int
        Given to a class or function that has arguments of these names.
    params : mapping, optional
        Further arguments by name (the parameter ``model_params``). A function with an argument ``config``, or with one argument
        only that has none of these names, is given them as one dict, as RayDP's creators are.

    Examples
    --------
    >>> build_module(torch.nn.Linear, 1, 1, {"in_features": 2, "out_features": 3})
    Linear(in_features=2, out_features=3, bias=True)
    >>> build_module(lambda config: torch.nn.Linear(config["width"], 1), 1, 1, {"width": 4})
    Linear(in_features=4, out_features=1, bias=True)
    """
    if isinstance(model, torch.nn.Module):
        if params:
            raise InvalidValueError(
                f"model_params={dict(params)!r} are arguments for a class or function that makes the model, but model is a "
                f"{type(model).__name__} that is made already"
            )
        return copy.deepcopy(model)
    module = model(**_arguments(model, {"n_features": n_features, "n_outputs": n_outputs}, params))
    if not isinstance(module, torch.nn.Module):
        raise InvalidTypeError(f"model made a {type(module).__name__}; it must make a torch.nn.Module")
    return module


def _arguments(model: Any, known: Mapping[str, int], params: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a class or function is called with."""
    name = getattr(model, "__name__", model)
    signature = inspect.signature(model).parameters
    open_kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    takes_any = any(item.kind is inspect.Parameter.VAR_KEYWORD for item in signature.values())
    given = {**{key: value for key, value in known.items() if key in signature}, **(params or {})}
    needed = [
        key
        for key, item in signature.items()
        if key not in given and item.default is inspect.Parameter.empty and item.kind not in open_kinds
    ]
    if params is not None and (needed == ["config"] or (len(needed) == 1 and not set(params) & set(signature))):
        return {**{key: value for key, value in given.items() if key not in params}, needed[0]: dict(params)}
    if needed:
        raise InvalidValueError(
            f"model={name} needs {', '.join(needed)}; a class or function is called with model_params, and with those of "
            "n_features and n_outputs that it names: give the others in model_params, or give an object"
        )
    unknown = [key for key in params or {} if key not in signature]
    if unknown and not takes_any:
        raise InvalidValueError(f"model_params names {', '.join(unknown)}, which model={name} does not take")
    return given


def batch_norms(module: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers of a model that normalise over the rows of a batch, which one row alone does not allow.

    Examples
    --------
    >>> batch_norms(torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.LayerNorm(3)))
    [BatchNorm1d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)]
    """
    return [each for each in module.modules() if isinstance(each, _BATCH_NORMS)]


def prediction_of(outputs: Any, which: int | str | Callable[[Any], Any] | None) -> torch.Tensor:
    """The prediction among what a model's ``forward`` gave.

    Parameters
    ----------
    outputs : torch.Tensor, tuple, list or mapping
        What it gave.
    which : int, str, callable or None
        The parameter ``model_output``: a place in a tuple, a key of a dict, or a function of all of it, which is given tensors
        without gradients. None: the only tensor.

    Examples
    --------
    >>> prediction_of({"hidden": torch.zeros(2), "score": torch.ones(2)}, "score")
    tensor([1., 1.])
    >>> prediction_of((torch.ones(2), None), None)
    tensor([1., 1.])
    """
    if callable(which):
        found = which(_detached(outputs))
        if not isinstance(found, torch.Tensor | np.ndarray):
            raise InvalidTypeError(
                f"model_output={which!r} gave a {type(found).__name__} for what the model's forward gives; it must give a tensor "
                "or an array with an entry for each row"
            )
        return torch.as_tensor(found)
    if isinstance(outputs, torch.Tensor):
        if which is not None:
            raise InvalidValueError(f"model_output={which!r}, but the model's forward gives one tensor: leave it out")
        return outputs
    if isinstance(outputs, Mapping):
        places: dict[Any, Any] = dict(outputs)
    elif isinstance(outputs, tuple | list):
        places = dict(enumerate(outputs))
    else:
        raise InvalidTypeError(
            f"the model's forward gives a {type(outputs).__name__}; it must give a tensor, or a tuple or dict with one"
        )
    tensors = {key: value for key, value in places.items() if isinstance(value, torch.Tensor)}
    if which is None:
        if len(tensors) == 1:
            return next(iter(tensors.values()))
        raise InvalidValueError(
            f"the model's forward gives a {type(outputs).__name__} with {len(tensors)} tensors, {list(tensors)}: say with "
            "model_output which one is the prediction"
        )
    if which not in tensors:
        raise InvalidValueError(f"model_output={which!r} is not among what the model's forward gives: {list(tensors)}")
    return tensors[which]


def _detached(outputs: Any) -> Any:
    """What a model gave, without gradients."""
    if isinstance(outputs, torch.Tensor):
        return outputs.detach()
    if isinstance(outputs, Mapping):
        return {key: _detached(value) for key, value in outputs.items()}
    if isinstance(outputs, tuple) and hasattr(outputs, "_fields"):
        return type(outputs)(*map(_detached, outputs))
    return type(outputs)(map(_detached, outputs)) if isinstance(outputs, tuple | list) else outputs
