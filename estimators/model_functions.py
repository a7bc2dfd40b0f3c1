"""Functions and classes of users that make a model."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from raydp_ml.errors import InvalidValueError

__all__ = ["call_with_sizes"]


def call_with_sizes(make: Callable[..., Any], n_features: int, n_outputs: int) -> Any:
    """What a class or function makes, called without arguments, or with those of ``n_features`` and ``n_outputs`` that it names.

    Raises
    ------
    InvalidValueError
        When it needs another argument.

    Examples
    --------
    >>> call_with_sizes(lambda n_features: [0.0] * n_features, 3, 1)
    [0.0, 0.0, 0.0]
    """
    parameters = inspect.signature(make).parameters
    known = {"n_features": n_features, "n_outputs": n_outputs}
    open_kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    missing = [
        name
        for name, item in parameters.items()
        if name not in known and item.default is inspect.Parameter.empty and item.kind not in open_kinds
    ]
    if missing:
        raise InvalidValueError(
            f"model={getattr(make, '__name__', make)} needs {', '.join(missing)}; a class or function is called without "
            "arguments, or with those of n_features and n_outputs that it names: give functools.partial(...), or an object"
        )
    return make(**{name: value for name, value in known.items() if name in parameters})
