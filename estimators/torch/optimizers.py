"""The optimizer of one fit: made for the copy of the model that is trained, from each form that a user may give."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.persistence.codecs.torch_optimizers import construct_optimizer

__all__ = ["OptimizerRecipe", "pack_optimizer", "same_optimizer"]


@dataclass(frozen=True)
class OptimizerRecipe:
    """How to make the optimizer for a model.

    Either ``make(parameters)``, or ``kind`` with groups of names of parameters and their options, and with what it has gathered.
    """

    make: Callable[[Any], Any] | None = None
    kind: type | None = None
    groups: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = ()
    state: dict[int, Any] | None = None

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
        made = construct_optimizer(self.kind, groups)
        if self.state is not None:
            made.load_state_dict({**made.state_dict(), "state": self.state})
        return made


@dataclass(frozen=True)
class _ByClass:
    """Calls an optimizer class with a learning rate; a class, so that it can be pickled.

    The kernels that update all parameters at once (``fused``) are asked for where a class of torch.optim has them: the steps of a
    small network are over before Python has walked through its parameters.
    """

    kind: type
    lr: float

    def __call__(self, parameters: Any) -> Any:
        parameters = list(parameters)
        ours = self.kind.__module__.startswith("torch.optim")
        if ours and "fused" in inspect.signature(self.kind).parameters:
            try:
                return self.kind(parameters, lr=self.lr, fused=True)
            except (
                RuntimeError
            ):  # these parameters have a type, or lie on a device, for which there are no such kernels
                pass
        return self.kind(parameters, lr=self.lr)


def pack_optimizer(optimizer: Any, lr: float, model: Any) -> OptimizerRecipe:
    """Read the parameter ``optimizer``: a name, a class, a function of the parameters, or an optimizer of the model.

    Examples
    --------
    >>> pack_optimizer("sgd", 0.1, None).build(torch.nn.Linear(1, 1)).param_groups[0]["lr"]
    0.1
    """
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
    names = _names_in_groups(optimizer, dict(model.named_parameters()))
    groups = []
    for group, inside in zip(optimizer.param_groups, names, strict=True):
        options = {key: value for key, value in group.items() if key not in ("params", "param_names")}
        groups.append((inside, copy.deepcopy(options)))
    state = copy.deepcopy(optimizer.state_dict()["state"])
    return OptimizerRecipe(kind=type(optimizer), groups=tuple(groups), state=state or None)


def _names_in_groups(
    optimizer: torch.optim.Optimizer, parameters: dict[str, torch.nn.Parameter]
) -> list[tuple[str, ...]]:
    """Which of a model's parameters each group of an optimizer holds.

    ``clone``, pickle and saved directories copy the model and its optimizer one by one, so that the optimizer holds copies of the
    parameters. A copy has the values of its original, by which it is found again.
    """
    by_identity = {id(parameter): name for name, parameter in parameters.items()}
    held = [group["params"] for group in optimizer.param_groups]
    if all(id(parameter) in by_identity for group in held for parameter in group):
        return [tuple(by_identity[id(parameter)] for parameter in group) for group in held]
    left = dict(parameters)
    found: list[tuple[str, ...]] = []
    for group in held:
        inside = []
        for parameter in group:
            name = next((name for name, each in left.items() if _same(each, parameter)), None)
            if name is None:
                raise InvalidValueError(
                    "optimizer holds parameters that are not the model's; make it from the parameters of the model given, or give "
                    "a class or a function"
                )
            inside.append(name)
            del left[name]
        found.append(tuple(inside))
    _check_unambiguous(optimizer, held, found, parameters)
    return found


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if torch.nn.parameter.is_lazy(one) or torch.nn.parameter.is_lazy(other):
        return type(one) is type(other)
    return torch.equal(one, other)


def same_optimizer(one: torch.optim.Optimizer, other: torch.optim.Optimizer) -> bool:
    """Whether two optimizers are of one class, with equal options and parameters of equal values, as an original and its copy are.

    Examples
    --------
    >>> adam = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    >>> same_optimizer(adam, copy.deepcopy(adam)), same_optimizer(adam, torch.optim.SGD([torch.zeros(1)], lr=0.1))
    (True, False)
    """
    if type(one) is not type(other) or len(one.param_groups) != len(other.param_groups):
        return False
    for group, its in zip(one.param_groups, other.param_groups, strict=True):
        if group.keys() != its.keys() or len(group["params"]) != len(its["params"]):
            return False
        if any(group[key] != its[key] for key in group if key not in ("params", "param_names")):
            return False
        if not all(map(_same, group["params"], its["params"])):
            return False
    return True


def _check_unambiguous(
    optimizer: torch.optim.Optimizer,
    held: Sequence[Sequence[torch.Tensor]],
    found: Sequence[tuple[str, ...]],
    parameters: dict[str, torch.nn.Parameter],
) -> None:
    """Raise where parameters of equal values are treated differently: which of the two copies is which cannot be told."""
    home = {name: place for place, inside in enumerate(found) for name in inside}
    copies = {
        name: each for names, group in zip(found, held, strict=True) for name, each in zip(names, group, strict=True)
    }
    for name, each in copies.items():
        for other, parameter in parameters.items():
            if other == name or not _same(parameter, each):
                continue
            gathered = optimizer.state.get(each) or optimizer.state.get(copies.get(other, each))
            if home.get(other) != home[name] or gathered:
                raise InvalidValueError(
                    f"optimizer is a copy, and the parameters {name} and {other} of the model have equal values, so that it "
                    "cannot be told which of them stands in which group; give a function that makes the optimizer"
                )
