"""From TorchEstimator's parameters to a model, its inputs, an optimizer and a scheduler, all made anew for each fit."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.estimators.model_functions import call_with_sizes
from raydp_ml.frames.columns import Feature
from raydp_ml.frames.layouts import places

__all__ = ["Inputs", "OptimizerRecipe", "SchedulerRecipe", "build_module", "pack_optimizer", "pack_scheduler", "typed"]


# -- the model -----------------------------------------------------------------------------------------------------


def check_model(model: Any) -> None:
    """Raise for what is no model and makes none."""
    if type(model).__module__.startswith("skorch") or any(
        base.__module__.startswith("skorch") for base in type(model).__mro__
    ):
        raise InvalidValueError(
            f"model is a skorch {type(model).__name__}, which is not taken yet; give its module (net.module), criterion as loss "
            "and optimizer"
        )
    if not isinstance(model, torch.nn.Module) and not callable(model):
        raise InvalidTypeError(f"model={model!r} must be a torch.nn.Module, a class, or a function that makes one")


def build_module(model: Any, n_features: int, n_outputs: int) -> torch.nn.Module:
    """A model of its own for one fit: a copy of an object, or what a class or function makes.

    A class or function is called without arguments, or with those of ``n_features`` and ``n_outputs`` that it names.
    """
    if isinstance(model, torch.nn.Module):
        return copy.deepcopy(model)
    module = call_with_sizes(model, n_features, n_outputs)
    if not isinstance(module, torch.nn.Module):
        raise InvalidTypeError(f"model made a {type(module).__name__}; it must make a torch.nn.Module")
    return module


def tensor_of(outputs: Any) -> torch.Tensor:
    """What a model gave, which has to be one tensor."""
    if isinstance(outputs, torch.Tensor):
        return outputs
    raise InvalidTypeError(
        f"the model's forward gives a {type(outputs).__name__}, but it must give one tensor with the outputs of each row; wrap the "
        "model in a module whose forward picks it"
    )


# -- its inputs ----------------------------------------------------------------------------------------------------


# What features cross as where the model takes them in a type that float32 does not hold; torch casts from there.
_CROSS_AS = {torch.float64: "float64"} | {
    dtype: "int64" for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
}


def typed(feature_types: Any, features: Sequence[Feature]) -> tuple[Feature, ...]:
    """Features in the types in which they reach the model.

    Parameters
    ----------
    feature_types : dtype, list or dict, optional
        The parameter of the estimator: one type is that of the whole matrix, and a list (one for each column, as RayDP has it)
        gives the matrix the type that holds them all. A dict takes the columns that it names out of the matrix.
    features : sequence of Feature
        The feature columns.
    """
    if isinstance(feature_types, Mapping):
        names = [feature.name for feature in features]
        unknown = [name for name in feature_types if name not in names]
        if unknown:
            raise InvalidValueError(f"feature_types names {unknown}, which are not among the features {names}")
        types = [as_dtype(feature_types.get(name, torch.float32), "feature_types") for name in names]
    else:
        types = [_matrix_type(feature_types, len(features))] * len(features)
    return tuple(
        replace(feature, dtype=_CROSS_AS.get(dtype, "float32")) for feature, dtype in zip(features, types, strict=True)
    )


def _matrix_type(feature_types: Any, columns: int) -> torch.dtype:
    """The type of the one matrix of all features."""
    if feature_types is None:
        return torch.float32
    if not isinstance(feature_types, Sequence) or isinstance(feature_types, str):
        return as_dtype(feature_types, "feature_types")
    if len(feature_types) != columns:
        raise InvalidValueError(f"feature_types has {len(feature_types)} types for {columns} feature columns")
    dtype = as_dtype(feature_types[0], "feature_types")
    for item in feature_types[1:]:
        dtype = torch.promote_types(dtype, as_dtype(item, "feature_types"))
    return dtype


@dataclass(frozen=True)
class Inputs:
    """How the matrices of features become the arguments of ``forward``.

    ``dtype`` is the type of the one matrix that the model takes. Columns in ``named`` do not stand in it; each is given by its
    name, in its own type: ``(number of its matrix, columns there, dtype)``. ``rest`` says likewise where the others are.
    """

    dtype: torch.dtype = torch.float32
    named: Mapping[str, tuple[int, slice, torch.dtype]] = field(default_factory=dict)
    rest: tuple[int, tuple[int, ...]] | None = None

    @classmethod
    def of(cls, feature_types: Any, features: Sequence[Feature]) -> Inputs:
        """Read the parameter ``feature_types``, see :func:`typed`."""
        if not isinstance(feature_types, Mapping):
            return cls(_matrix_type(feature_types, len(features)))
        where = places(typed(feature_types, features))
        named = {
            name: (*where[name], as_dtype(dtype, "feature_types"))
            for name, dtype in feature_types.items()
            if name in where
        }
        rest = [where[feature.name] for feature in features if feature.name not in feature_types]
        columns = tuple(index for _, part in rest for index in range(part.start, part.stop))
        return cls(torch.float32, named, (rest[0][0], columns) if rest else None)

    def __call__(self, groups: Sequence[torch.Tensor]) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
        """Positional and named arguments of ``forward`` for the matrices of features, one for each type."""
        if not self.named:
            return (groups[0].to(self.dtype),), {}
        named = {}
        for name, (number, part, dtype) in self.named.items():
            column = groups[number][:, part].to(dtype)
            named[name] = column[:, 0] if column.shape[1] == 1 else column
        if self.rest is None:
            return (), named
        number, columns = self.rest
        return (groups[number][:, list(columns)],), named


def as_dtype(value: Any, argument: str) -> torch.dtype:
    """A torch type, or its name."""
    found = getattr(torch, value, None) if isinstance(value, str) else value
    if not isinstance(found, torch.dtype):
        raise InvalidTypeError(f"{argument}: {value!r} is not a torch dtype such as torch.float or torch.long")
    return found


# -- the optimizer -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OptimizerRecipe:
    """How to make the optimizer for a model: ``make(parameters)``, or a class with groups of parameter names."""

    make: Callable[[Any], Any] | None = None
    kind: type | None = None
    groups: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = ()
    state: dict[str, Any] | None = None
    lr: float | None = None

    def build(self, module: torch.nn.Module) -> torch.optim.Optimizer:
        """An optimizer of the parameters of this very module."""
        if self.kind is None or self.make is not None:
            trainable = [each for each in module.parameters() if each.requires_grad]
            if not trainable or self.make is None:
                raise InvalidValueError("the model has no parameters to train")
            made = self.make(trainable)
            if not isinstance(made, torch.optim.Optimizer):
                raise InvalidTypeError(f"optimizer made a {type(made).__name__}; it must make a torch.optim.Optimizer")
            return made
        parameters = dict(module.named_parameters())
        groups = [{"params": [parameters[name] for name in names], **options} for names, options in self.groups]
        made = _construct(self.kind, groups)
        if self.state is not None:
            made.load_state_dict({**made.state_dict(), "state": self.state})
        return made


def _construct(kind: type, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Make an optimizer whose options stand in its groups; what the constructor insists on is taken from the first."""
    accepted = inspect.signature(kind).parameters
    options = {name: value for name, value in groups[0].items() if name in accepted and name != "params"}
    made = kind(groups, **options)
    for group, wanted in zip(made.param_groups, groups, strict=True):
        group.update({name: value for name, value in wanted.items() if name != "params"})
    return made


@dataclass(frozen=True)
class _ByClass:
    """Calls an optimizer class with a learning rate; a class, so that it can be pickled."""

    kind: type
    lr: float

    def __call__(self, parameters: Any) -> Any:
        return self.kind(parameters, lr=self.lr)


def pack_optimizer(optimizer: Any, lr: float, model: Any) -> OptimizerRecipe:
    """Read the parameter ``optimizer``: a name, a class, a function of the parameters, or an optimizer of the model."""
    if isinstance(optimizer, str):
        known = {
            name.lower(): kind
            for name, kind in vars(torch.optim).items()
            if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
        }
        if optimizer.lower() not in known:
            raise InvalidValueError(
                f"optimizer={optimizer!r} is not an optimizer of torch.optim: {', '.join(sorted(known))}"
            )
        return OptimizerRecipe(_ByClass(known[optimizer.lower()], lr))
    if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer):
        return OptimizerRecipe(_ByClass(optimizer, lr))
    if isinstance(optimizer, torch.optim.Optimizer):
        return _from_instance(optimizer, model)
    if callable(optimizer):
        return OptimizerRecipe(optimizer)
    raise InvalidTypeError(
        f"optimizer={optimizer!r} must be a name, a class of torch.optim, a function of the parameters, or an optimizer"
    )


def _from_instance(optimizer: torch.optim.Optimizer, model: Any) -> OptimizerRecipe:
    if not isinstance(model, torch.nn.Module):
        raise InvalidValueError("optimizer is an object, so model must be the very object whose parameters it holds")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = []
    for group in optimizer.param_groups:
        if any(id(parameter) not in names for parameter in group["params"]):
            raise InvalidValueError(
                "optimizer holds parameters that are not the model's; make it from the parameters of the model given, or give a "
                "class or a function"
            )
        options = {key: value for key, value in group.items() if key not in ("params", "param_names")}
        groups.append((tuple(names[id(parameter)] for parameter in group["params"]), copy.deepcopy(options)))
    state = copy.deepcopy(optimizer.state_dict()["state"])
    return OptimizerRecipe(kind=type(optimizer), groups=tuple(groups), state=state or None)


# -- the scheduler -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SchedulerRecipe:
    """How to make the scheduler for an optimizer: ``make(optimizer)``, or the attributes of the user's own."""

    make: Callable[[Any], Any] | None = None
    kind: type | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def build(self, optimizer: torch.optim.Optimizer) -> Any:
        """A scheduler of this very optimizer."""
        if self.make is not None:
            made = self.make(optimizer)
            if not hasattr(made, "step"):
                raise InvalidTypeError(f"lr_scheduler made a {type(made).__name__}; it must make a scheduler")
            return made
        kind: Any = self.kind
        made = kind.__new__(kind)
        made.__dict__.update(copy.deepcopy(dict(self.attributes)))
        made.optimizer = optimizer
        return made


@dataclass(frozen=True)
class _Cosine:
    epochs: int

    def __call__(self, optimizer: Any) -> Any:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.epochs)


def pack_scheduler(scheduler: Any, optimizer: Any, epochs: int) -> SchedulerRecipe | None:
    """Read the parameter ``lr_scheduler``: "cosine", a class or function of the optimizer, or a scheduler of it."""
    if scheduler is None:
        return None
    if scheduler == "cosine":
        return SchedulerRecipe(_Cosine(epochs))
    if isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler):
        if scheduler.optimizer is not optimizer:
            raise InvalidValueError(
                "lr_scheduler is an object, so optimizer must be the very object that it was made for"
            )
        attributes = {key: value for key, value in vars(scheduler).items() if key != "optimizer"}
        nested = [
            key
            for key, value in attributes.items()
            if key == "_schedulers" or isinstance(value, type(scheduler).__mro__[-2])
        ]
        if nested:
            raise InvalidTypeError(
                f"lr_scheduler is a {type(scheduler).__name__} of others; give a function of the optimizer"
            )
        return SchedulerRecipe(kind=type(scheduler), attributes=attributes)
    if callable(scheduler):
        return SchedulerRecipe(scheduler)
    raise InvalidTypeError(
        f"lr_scheduler={scheduler!r} must be 'cosine', a function of the optimizer, a scheduler of the optimizer, or None"
    )
