"""Names of steps, and parameters of steps as ``step__parameter``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.pipeline.steps import NamedStep, is_final, step_of

__all__ = ["check_names", "check_steps", "params_of_steps", "set_params_of_steps"]

# A step of such a name would hide a parameter of the pipeline.
_RESERVED = ("steps", "spark")


def check_names(steps: Any) -> list[NamedStep]:
    """The steps as pairs, after a check that they have the shape and names that steps need.

    Parameters
    ----------
    steps : object
        What a user gave as steps.

    Returns
    -------
    list of (name, step)
        The same steps.
    """
    if isinstance(steps, str | Mapping) or not isinstance(steps, Sequence):
        raise InvalidTypeError(f"steps must be a list of (name, step), got {steps!r}")
    names: list[str] = []
    for item in steps:
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise InvalidTypeError(f"each of the steps must be a pair (name, step), got {item!r}")
        name = item[0]
        if not isinstance(name, str) or not name:
            raise InvalidTypeError(f"the name of a step must be a string, got {name!r}")
        if "__" in name:
            raise InvalidValueError(f"the step name {name!r} holds '__', which separates a step from its parameters")
        if name in _RESERVED:
            raise InvalidValueError(f"the step name {name!r} is a parameter of the pipeline; choose another")
        if name in names:
            raise InvalidValueError(f"two steps are named {name!r}; names must be unique")
        names.append(name)
    return [(name, step) for name, step in steps]


def check_steps(steps: Any) -> list[NamedStep]:
    """The steps as pairs, after a check of their names, kinds and order.

    Parameters
    ----------
    steps : object
        What a user gave as steps.

    Returns
    -------
    list of (name, step)
        The same steps.
    """
    pairs = check_names(steps)
    for position, (name, value) in enumerate(pairs):
        if is_final(value) and position < len(pairs) - 1:
            raise InvalidTypeError(
                f"step {name!r}, a {type(value).__name__}, is an estimator and must be the last step; it is followed "
                f"by {pairs[position + 1][0]!r}"
            )
    return pairs


def params_of_steps(steps: Sequence[NamedStep]) -> dict[str, Any]:
    """The steps by name, and their parameters as ``step__parameter``.

    Parameters
    ----------
    steps : sequence of (name, step)
        Checked steps.

    Returns
    -------
    dict
        Values by name.
    """
    params: dict[str, Any] = {}
    for name, value in steps:
        params[name] = value
        params.update({f"{name}__{key}": inner for key, inner in step_of(value).get_params().items()})
    return params


def set_params_of_steps(steps: Any, params: Mapping[str, Any]) -> list[NamedStep]:
    """Replace whole steps, and set parameters of the others.

    Parameters
    ----------
    steps : object
        What a user gave as steps. The list stays as it is; the objects in it get the parameters.
    params : mapping
        Steps by name, and parameters as ``step__parameter``.

    Returns
    -------
    list of (name, step)
        The steps that the pipeline has now.
    """
    new = check_names(steps)
    names = [name for name, _ in new]
    inner: dict[str, dict[str, Any]] = {}
    for key, value in params.items():
        name, nested, rest = key.partition("__")
        if name not in names:
            raise InvalidValueError(
                f"{key!r} is not a parameter of this pipeline; it has 'steps', 'spark' and the steps "
                f"{', '.join(map(repr, names))}, with their parameters as 'step__parameter'"
            )
        if nested:
            inner.setdefault(name, {})[rest] = value
        else:
            step_of(value)
            new[names.index(name)] = (name, value)
    for name, values in inner.items():
        step_of(new[names.index(name)][1]).set_params(name, values)
    return new
