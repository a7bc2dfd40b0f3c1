"""The scheduler of the learning rate of one fit: from each form that a user may give, and when it steps."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import lr_scheduler

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.estimators.torch.optimizers import same_optimizer

__all__ = ["Schedule", "SchedulerRecipe", "SchedulerSettings", "pack_scheduler"]

# Arguments of schedulers that are how often they will step.
_STEPS = ("T_max", "T_0", "total_iters", "total_steps")


class _NoOptimizer:
    """Stands where a packed scheduler has its optimizer, whose tensors need not travel with it."""


@dataclass(frozen=True)
class SchedulerRecipe:
    """How to make the scheduler for an optimizer.

    ``make(optimizer)``; or a class of torch.optim.lr_scheduler; or ``packed``, a scheduler without its optimizer.
    """

    make: Callable[[Any], Any] | None = None
    kind: type | None = None
    packed: Any = None

    def build(self, optimizer: torch.optim.Optimizer, steps: int) -> Any:
        """A scheduler of this very optimizer, which will step so many times."""
        if self.packed is not None:
            # Whether the optimizer steps before the scheduler is watched by torch from the first scheduler on that is made for an
            # optimizer; a copy is not made for it. This one changes nothing.
            lr_scheduler.ConstantLR(optimizer, factor=1.0)
            return copy.deepcopy(self.packed, {id(self.packed.optimizer): optimizer})
        if self.kind is not None:
            return self.kind(optimizer, **_planned(self.kind, optimizer, steps))
        made = None if self.make is None else self.make(optimizer)
        if not hasattr(made, "step"):
            raise InvalidTypeError(f"lr_scheduler made a {type(made).__name__}; it must make a scheduler")
        return made


def _planned(kind: type, optimizer: torch.optim.Optimizer, steps: int) -> dict[str, Any]:
    """What a class needs to know of the fit: how often it steps, and the largest learning rate."""
    accepted = inspect.signature(kind).parameters
    known: dict[str, Any] = {name: max(steps, 1) for name in _STEPS if name in accepted}
    if "max_lr" in accepted:
        known["max_lr"] = [group["lr"] for group in optimizer.param_groups]
    missing = [
        name
        for name, item in accepted.items()
        if item.default is inspect.Parameter.empty and name != "optimizer" and name not in known
    ]
    if missing:
        raise InvalidValueError(
            f"lr_scheduler={kind.__name__!r} needs {', '.join(missing)}: give a function of the optimizer, such as "
            f"functools.partial(torch.optim.lr_scheduler.{kind.__name__}, {missing[0]}=...)"
        )
    return known


def pack_scheduler(scheduler: Any, optimizer: Any) -> SchedulerRecipe | None:
    """Read the parameter ``lr_scheduler``: a name, a class, a function of the optimizer, or a scheduler of the optimizer given.

    Examples
    --------
    >>> adam = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    >>> pack_scheduler("cosine", "adam").build(adam, steps=4).T_max
    4
    """
    if scheduler is None:
        return None
    if isinstance(scheduler, str):
        return _of_kind(_class_of(scheduler))
    if isinstance(scheduler, lr_scheduler.LRScheduler | lr_scheduler.ReduceLROnPlateau):
        return SchedulerRecipe(packed=_without_optimizer(scheduler, optimizer))
    if isinstance(scheduler, type) and issubclass(scheduler, lr_scheduler.LRScheduler):
        return _of_kind(scheduler)
    if callable(scheduler):
        return SchedulerRecipe(make=scheduler)
    raise InvalidTypeError(
        f"lr_scheduler={scheduler!r} must be a name, a class, a function of the optimizer, a scheduler of the optimizer, or None"
    )


def _of_kind(kind: type) -> SchedulerRecipe:
    probe = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    _planned(kind, probe, 1)  # what a class lacks is said before anything is read
    return SchedulerRecipe(kind=kind)


def _class_of(name: str) -> type:
    known = {
        key.lower(): kind
        for key, kind in vars(lr_scheduler).items()
        if isinstance(kind, type) and issubclass(kind, lr_scheduler.LRScheduler) and not key.startswith("_")
    }
    del known["lrscheduler"]
    found = known.get("cosineannealinglr" if name == "cosine" else name.lower())
    if found is None:
        names = ", ".join(sorted(kind.__name__ for kind in known.values()))
        raise InvalidTypeError(
            f"lr_scheduler={name!r} is not 'cosine' nor a class of torch.optim.lr_scheduler: {names}; or give a function of the "
            "optimizer"
        )
    return found


def _without_optimizer(scheduler: Any, optimizer: Any) -> Any:
    theirs = scheduler.optimizer
    if theirs is not optimizer and not (
        isinstance(optimizer, torch.optim.Optimizer) and same_optimizer(theirs, optimizer)
    ):
        raise InvalidValueError("lr_scheduler is an object, so optimizer must be the very object that it was made for")
    return copy.deepcopy(scheduler, {id(theirs): _NoOptimizer()})


@dataclass(frozen=True)
class SchedulerSettings:
    """The parameters that say how and when the learning rate changes."""

    recipe: SchedulerRecipe | None = None
    every_batch: bool = False
    monitor: str | None = None


class Schedule:
    """The scheduler of one training, and when it steps.

    Parameters
    ----------
    settings : SchedulerSettings
        What was asked for.
    optimizer : torch.optim.Optimizer
        Whose learning rate changes.
    steps : int
        How often the optimizer steps in the whole training.
    epochs : int
        Passes over the rows.
    """

    def __init__(self, settings: SchedulerSettings, optimizer: torch.optim.Optimizer, steps: int, epochs: int) -> None:
        self._settings = settings
        self.scheduler: Any = None
        if settings.recipe is not None:
            self.scheduler = settings.recipe.build(optimizer, steps if settings.every_batch else epochs)
        self._waits_for_metric = isinstance(self.scheduler, lr_scheduler.ReduceLROnPlateau)
        if self._waits_for_metric and settings.every_batch:
            raise InvalidValueError(
                "lr_scheduler is a ReduceLROnPlateau, which looks at a metric of an epoch: set scheduler_step_freq='epoch'"
            )
        if settings.monitor is not None and not self._waits_for_metric:
            raise InvalidValueError(
                f"scheduler_monitor={settings.monitor!r} is for ReduceLROnPlateau only; lr_scheduler is "
                f"{type(self.scheduler).__name__ if self.scheduler is not None else None}"
            )

    def after_batch(self) -> None:
        """A step of the optimizer was made."""
        if self.scheduler is not None and self._settings.every_batch:
            self.scheduler.step()

    def after_epoch(self, metrics: Mapping[str, float]) -> None:
        """An epoch ended with these metrics."""
        if self.scheduler is None or self._settings.every_batch:
            return
        if not self._waits_for_metric:
            self.scheduler.step()
            return
        name = self._settings.monitor or ("valid_loss" if "valid_loss" in metrics else "train_loss")
        if name not in metrics:
            raise InvalidValueError(
                f"scheduler_monitor={name!r} is not among the metrics: {', '.join(key for key in metrics if key != 'epoch')}"
            )
        self.scheduler.step(metrics[name])
