"""Checks of parameters and of what a survey told, with errors that name the argument."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from raydp_ml.errors import InvalidTypeError, InvalidValueError, RaydpMLError
from raydp_ml.estimators.survey import Survey

__all__ = ["check_parameters", "check_survey", "own_errors", "validation_mask"]

# The least that a parameter which is a whole number may be, for the estimators that have it.
_LEAST = {
    **{"num_workers": 0, "max_retries": 0, "checkpoint_every": 0},
    **{"batch_size": 1, "num_epochs": 1, "num_boost_round": 1},
}
# Of these, those that may be left open.
_MAY_BE_NONE = ("num_workers", "checkpoint_every")


def check_parameters(params: Mapping[str, Any]) -> None:
    """Check the parameters that all estimators have.

    Parameters
    ----------
    params : mapping of str to object
        As ``get_params(deep=False)`` gives them.
    """
    if params["null_features"] not in ("error", "skip", "null"):
        raise InvalidValueError(f"null_features={params['null_features']!r} must be 'error', 'skip' or 'null'")
    for name, least in _LEAST.items():
        if name not in params or (name in _MAY_BE_NONE and params[name] is None):
            continue
        value = params[name]
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise InvalidTypeError(f"{name}={value!r} must be a whole number")
        if value < least:
            raise InvalidValueError(f"{name}={value!r} must be at least {least}")
    for name in ("sparse", "streaming"):
        if params[name] not in ("auto", True, False):
            raise InvalidValueError(f"{name}={params[name]!r} must be 'auto', True or False")
    validation = params["validation"]
    if isinstance(validation, float) and not 0 < validation < 1:
        raise InvalidValueError(f"validation={validation!r}: a fraction must lie between 0 and 1")
    if isinstance(validation, bool | int):
        raise InvalidTypeError(f"validation={validation!r} must be a fraction, a frame, (X, y), a column name or None")


def check_survey(known: Survey, check_nulls: bool, what: str, label: str) -> None:
    """Raise for rows that no library can be given."""
    usable = known.rows if known.usable is None else int(known.usable.sum())
    if not known.rows:
        raise InvalidValueError(f"{what} is empty: it has no rows")
    if known.label_nulls:
        raise InvalidValueError(
            f"the label {label!r} is null or NaN in {known.label_nulls} of {known.rows} rows of {what}; drop or fill them"
        )
    if known.other_labels:
        raise InvalidValueError(
            f"{known.other_labels} labels in {label!r} of {what} are neither 0 nor 1, which each of several labels must be"
        )
    if known.null_rows and check_nulls:
        raise InvalidValueError(
            f"{known.null_rows} of {known.rows} rows of {what} have a null or NaN feature; fill them, or set null_features to "
            '"skip" or "null"'
        )
    if known.infinite_rows:
        raise InvalidValueError(
            f"{known.infinite_rows} of {known.rows} rows of {what} have an infinite feature, or one too large for float32"
        )
    if not usable:
        raise InvalidValueError(f"{what} is empty: every one of its {known.rows} rows has a null feature")
    if known.bad_weights:
        raise InvalidValueError(f"{known.bad_weights} rows of {what} have a weight that is negative, NaN or infinite")
    if known.weight == 0:
        raise InvalidValueError(
            f"every one of the {known.rows} rows of {what} has the weight 0; give some of them more"
        )


def validation_mask(known: Survey, fraction: float, seed: int | None) -> np.ndarray:
    """Choose the rows to validate on: by their place in the data and the seed, wherever they lie; whole queries in ranking."""
    total, name = (known.rows, "rows") if known.queries is None else (len(known.queries), "queries")
    count = max(1, round(total * fraction))
    if count >= total:
        raise InvalidValueError(f"validation={fraction} of {total} {name} leaves none to train on")
    mask = np.zeros(total, bool)
    mask[np.random.default_rng(seed).permutation(total)[:count]] = True
    return mask if known.query_of_row is None else mask[known.query_of_row]


@contextmanager
def own_errors() -> Iterator[None]:
    """Turn the errors of scikit-learn's validation into ours, message and all."""
    try:
        yield
    except RaydpMLError:
        raise
    except ValueError as error:
        raise InvalidValueError(str(error)) from error
    except TypeError as error:
        raise InvalidTypeError(str(error)) from error
