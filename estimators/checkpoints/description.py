"""What a fit is, in words that can be compared: a checkpoint counts for a fit with the same parameters on the same rows only."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["describe", "describe_parameters", "differences"]

# Parameters that change nothing of what is learnt. The seed is described in place of random_state, the rows that validate in place
# of the frame that has them, and the number of workers in place of what asked for it.
_WITHOUT_EFFECT = frozenset(
    [
        "storage_path",
        "checkpoint_every",
        "run_config",
        "scaling_config",
        "num_workers",
        "resources_per_worker",
        "use_gpu",
        "threads",
        "max_retries",
        "verbose",
        "random_state",
        "validation",
        "prediction_column",
        "probability_column",
        "margin_column",
        "leaf_column",
        "contribution_column",
    ]
)
# Addresses of objects are others in another process.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
# Keras numbers its layers, and goes on with the numbers where a model is made again.
_NUMBER = re.compile(r"_\d+\b")
# A longer value is not shown where it differs.
_SHOWN = 40


def describe_parameters(params: Mapping[str, Any]) -> dict[str, str]:
    """The parameters that change what is learnt, as text.

    Parameters
    ----------
    params : mapping of str to object
        As ``get_params(deep=False)`` gives them.

    Examples
    --------
    >>> describe_parameters({"lr": 0.1, "verbose": True, "metrics": None})
    {'lr': '0.1'}
    """
    described = {
        name: describe(value) for name, value in params.items() if name not in _WITHOUT_EFFECT and value is not None
    }
    validation = params.get("validation")
    if isinstance(validation, float | str):
        described["validation"] = repr(validation)
    return described


def describe(value: Any) -> str:
    """A value as text that is the same in another process.

    Functions and classes are described by their names, modules of torch by what they print, and Keras's objects by their
    configuration: weights do not count, because those of the checkpoint take their place.

    Parameters
    ----------
    value : object
        A parameter.

    Examples
    --------
    >>> describe([1, max, np.zeros(2)])
    '[1, builtins.max, float64(2,) 374708fff7719dd5]'
    """
    if isinstance(value, functools.partial):
        return f"partial({describe(value.func)}, {describe(value.args)}, {describe(value.keywords)})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {describe(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(describe, value)) + "]"
    if isinstance(value, np.ndarray) and value.dtype != object:
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]
        return f"{value.dtype}{value.shape} {digest}"
    if hasattr(value, "__qualname__"):  # a class or a function
        return f"{value.__module__}.{value.__qualname__}"
    if callable(getattr(value, "get_config", None)):
        return f"{type(value).__name__} {_NUMBER.sub('', json.dumps(value.get_config(), default=describe))}"
    if callable(getattr(value, "get_params", None)):
        return f"{type(value).__qualname__}({describe(value.get_params(deep=False))})"
    if type(value).__repr__ is object.__repr__:
        return f"{type(value).__module__}.{type(value).__qualname__}({describe(_scalars(value))})"
    return _ADDRESS.sub("", repr(value))


def _scalars(value: Any) -> dict[str, Any]:
    """The plain attributes of an object; others may be what it gathers while it is used."""
    plain = (bool, int, float, str, Path, type(None))
    found = vars(value) if hasattr(value, "__dict__") else {}
    return {name: each for name, each in found.items() if isinstance(each, plain) and not name.startswith("_")}


def differences(there: Mapping[str, str], now: Mapping[str, str]) -> str:
    """In what two descriptions differ, as part of a sentence; empty where they do not.

    Parameters
    ----------
    there, now : mapping of str to str
        What checkpoints were written for, and what they are to be used for. What is missing is None.

    Examples
    --------
    >>> differences({"lr": "0.1", "training rows": "9 rows"}, {"lr": "0.2", "training rows": "9 rows"})
    'lr (0.1 there, 0.2 now)'
    """
    found = []
    for name in dict.fromkeys((*there, *now)):
        before, after = there.get(name, "None"), now.get(name, "None")
        if before != after:
            short = max(len(before), len(after)) <= _SHOWN
            found.append(f"{name} ({before} there, {after} now)" if short else name)
    return ", ".join(found)
