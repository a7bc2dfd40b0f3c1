"""Checks of the parameters that TorchEstimator alone has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.estimators.torch.gradients import PRECISIONS
from raydp_ml.estimators.torch.loop import TrainingLoop

__all__ = ["check_training", "compile_arguments", "loop_of"]


def check_training(params: Mapping[str, Any]) -> None:
    """Raise for values that no training can use.

    Parameters
    ----------
    params : mapping of str to object
        As ``get_params(deep=False)`` gives them.
    """
    for name in ("lr", "max_grad_norm", "max_grad_value"):
        value = params[name]
        if value is None and name != "lr":
            continue
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not value > 0:
            raise InvalidValueError(f"{name}={value!r} must be a number above 0")
    for name in ("accumulate_batches", "threads"):
        value = params[name]
        if value is None and name == "threads":
            continue
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise InvalidTypeError(f"{name}={value!r} must be a whole number")
        if value < 1:
            raise InvalidValueError(f"{name}={value!r} must be at least 1")
    for name, allowed in (("scheduler_step_freq", ("epoch", "batch")), ("precision", tuple(PRECISIONS))):
        if params[name] not in allowed:
            raise InvalidValueError(f"{name}={params[name]!r} must be one of {', '.join(map(repr, allowed))}")
    if params["model_params"] is not None and not isinstance(params["model_params"], Mapping):
        raise InvalidTypeError(f"model_params={params['model_params']!r} must be a dict of arguments by name")


def compile_arguments(value: bool | Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The arguments of ``torch.compile``; None where nothing is to be compiled.

    Examples
    --------
    >>> compile_arguments(True), compile_arguments(False), compile_arguments({"mode": "max-autotune"})
    ({}, None, {'mode': 'max-autotune'})
    """
    if isinstance(value, Mapping):
        return dict(value)
    if not isinstance(value, bool):
        raise InvalidTypeError(f"compile={value!r} must be True, False or a dict of arguments of torch.compile")
    return {} if value else None


def loop_of(value: Any) -> type[TrainingLoop]:
    """The class of the training loop that the parameter ``loop`` stands for."""
    if value is None:
        return TrainingLoop
    if isinstance(value, type) and issubclass(value, TrainingLoop):
        return value
    raise InvalidTypeError(f"loop={value!r} must be a subclass of raydp_ml.estimators.torch.TrainingLoop")
