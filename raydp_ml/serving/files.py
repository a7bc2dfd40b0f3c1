"""The steps of a LocalPipeline in a saved directory: values in one file, arrays in another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raydp_ml.errors import InvalidTypeError
from raydp_ml.persistence.attachments import Attachments
from raydp_ml.persistence.directory import current_trust, overrides
from raydp_ml.persistence.functions import find_function, record_of_function
from raydp_ml.persistence.values import decode, encode
from raydp_ml.serving.functions import CallFunction
from raydp_ml.serving.stage import LocalStage, from_plain, to_plain

__all__ = ["read_steps", "write_steps"]

_STEPS, _ARRAYS = "steps.json", "arrays.npz"
_ARRAY = "array"


def write_steps(folder: Path, steps: Sequence[tuple[str, LocalStage]]) -> None:
    """Write steps.

    Parameters
    ----------
    folder : Path
        An existing directory.
    steps : sequence of (name, LocalStage)
        The steps; of functions the names are written.
    """
    arrays: list[np.ndarray] = []
    records = []
    for name, stage in steps:
        if isinstance(stage, CallFunction):
            records.append({"name": name, "made": list(stage.made), **record_of_function(stage.function)})
        else:
            records.append({"name": name, "stage": _without_arrays(to_plain(stage), arrays)})
    np.savez_compressed(folder / _ARRAYS, *arrays)
    (folder / _STEPS).write_text(json.dumps(encode(records, Attachments(folder)), allow_nan=False), encoding="utf-8")


def read_steps(folder: Path) -> tuple[tuple[str, LocalStage], ...]:
    """Read the steps that :func:`write_steps` wrote, within a load in progress.

    Parameters
    ----------
    folder : Path
        The directory.

    Returns
    -------
    tuple of (name, LocalStage)
        The steps. A function comes from ``load(params=...)``, or is imported when it is trusted.
    """
    with np.load(folder / _ARRAYS, allow_pickle=False) as file:
        arrays = [file[f"arr_{number}"] for number in range(len(file.files))]
    written = json.loads((folder / _STEPS).read_text(encoding="utf-8"))
    steps: list[tuple[str, LocalStage]] = []
    for record in decode(written, Attachments(folder), current_trust()):
        name = record["name"]
        if "stage" in record:
            steps.append((name, from_plain(_with_arrays(record["stage"], arrays))))
            continue
        function = overrides()[name] if name in overrides() else find_function(name, record)
        if not callable(function):
            raise InvalidTypeError(f"params={{{name!r}: ...}} must be a function, got {function!r}")
        steps.append((name, CallFunction(function, tuple(record["made"]))))
    return tuple(steps)


def _without_arrays(value: Any, arrays: list[np.ndarray]) -> Any:
    """A plain value whose arrays are put into a list, with their numbers in their place."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {_ARRAY: len(arrays) - 1}
    if isinstance(value, dict):
        return {key: _without_arrays(item, arrays) for key, item in value.items()}
    return [_without_arrays(item, arrays) for item in value] if isinstance(value, list) else value


def _with_arrays(value: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            return arrays[value[_ARRAY]]
        return {key: _with_arrays(item, arrays) for key, item in value.items()}
    return [_with_arrays(item, arrays) for item in value] if isinstance(value, list) else value
