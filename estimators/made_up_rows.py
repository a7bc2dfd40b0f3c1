"""Outputs for a few made-up rows, which stand in a saved directory so that loading can tell whether the model is the same.

The rows come from a seed, so that no row of a user is written anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.protocol import Fitted
from raydp_ml.frames.columns import Feature, column_slices
from raydp_ml.frames.layouts import assemble, of_type

__all__ = ["compare_outputs", "outputs_to_save"]

_SEED = 20
_ROWS = 8
# Rows times features, and outputs of a row that are written: enough for a comparison, nothing for a disk.
_MAX_VALUES = 2**22
_MAX_OUTPUTS = 100
# Outputs of one model differ between machines and thread counts in the last digits of float32, or of bfloat16 inside.
_TOLERANCE = 1e-2


def _numbers(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Rows of small and of large numbers."""
    return rng.normal(size=shape) * np.logspace(-1, 2, shape[0])[:, None]


def _indices(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Zeros and ones, which every embedding has."""
    return rng.integers(0, 2, shape)


_KINDS: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "numbers": _numbers,
    "indices": _indices,
}


def outputs_to_save(fitted: Fitted, features: Sequence[Feature]) -> dict[str, Any] | None:
    """What a model gives for made-up rows.

    Parameters
    ----------
    fitted : Fitted
        The model.
    features : sequence of Feature
        What it was fitted on.

    Returns
    -------
    dict or None
        For :func:`compare_outputs`. None for a model that takes no such rows, or gives other values each time.
    """
    width = sum(feature.width for feature in features)
    for kind in _KINDS:
        recipe = {"kind": kind, "seed": _SEED, "rows": max(1, min(_ROWS, _MAX_VALUES // max(width, 1)))}
        try:
            outputs, again = _outputs(fitted, features, recipe), _outputs(fitted, features, recipe)
        except Exception:  # any model may refuse rows that are not its user's: embeddings have no row for -1.7
            continue
        return {**recipe, "outputs": outputs} if _alike(outputs, again) else None
    return None


def compare_outputs(fitted: Fitted, features: Sequence[Feature], saved: Mapping[str, Any] | None) -> None:
    """Raise when a loaded model gives other values than the saved one.

    Parameters
    ----------
    fitted : Fitted
        The model.
    features : sequence of Feature
        What it was fitted on.
    saved : mapping or None
        What :func:`outputs_to_save` gave; None in directories of format version 1, too.

    Raises
    ------
    InvalidValueError
        With one of the values that differ.
    """
    if saved is None:
        return
    wanted = np.asarray(saved["outputs"])
    found = _outputs(fitted, features, saved)
    if found.shape != wanted.shape:
        difference = f"values of shape {found.shape}, not {wanted.shape}"
    elif _alike(wanted, found):
        return
    else:
        row, column = np.argwhere(~_close(wanted, found))[0]
        difference = f"{found[row, column]:.6g} where it was {wanted[row, column]:.6g}"
    raise InvalidValueError(
        "the loaded model does not predict what the saved one did: for rows made from a stored seed it gives "
        f"{difference}. Its code, its libraries or something that it reads changed since the save; load it with those of "
        "the save, or give the model as it was with load(path, model=...)"
    )


def _outputs(fitted: Fitted, features: Sequence[Feature], recipe: Mapping[str, Any]) -> np.ndarray:
    rng = np.random.default_rng(recipe["seed"])
    rows = _KINDS[recipe["kind"]](rng, (recipe["rows"], sum(feature.width for feature in features))).astype(np.float32)
    places = {feature: rows[:, part] for feature, (_, part) in zip(features, column_slices(features), strict=True)}
    X = assemble(features, len(rows), lambda feature: of_type(places[feature], feature))
    outputs = np.asarray(fitted.predict(X), dtype=np.float64)
    return outputs.reshape(len(rows), -1)[:, :_MAX_OUTPUTS]


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool(_close(one, other).all())


def _close(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    sizes = np.where(np.isfinite(one), np.abs(one), 0).max(axis=1, keepdims=True, initial=0)
    with np.errstate(invalid="ignore"):  # infinite outputs are equal or not
        near = np.abs(one - other) <= _TOLERANCE * sizes + 1e-6
    return near | (one == other) | (np.isnan(one) & np.isnan(other))
