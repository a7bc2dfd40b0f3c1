"""Which rows are in which fold: a number of folds, a splitter, pairs of positions, a fraction held out, or a column.

Splitters of scikit-learn look at labels and groups only, so that nothing else of a distributed frame is brought here for them.
Columns of text come as codes, so that a hundred million labels are no hundred million Python objects, and a split is kept as one
byte per row.
"""

from __future__ import annotations

import hashlib
import numbers
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.model_selection import (
    KFold,
    PredefinedSplit,
    ShuffleSplit,
    StratifiedKFold,
    StratifiedShuffleSplit,
    check_cv,
)

from raydp_ml.errors import InvalidTypeError, InvalidValueError

__all__ = ["TEST", "TRAIN", "Splits", "check_cv_argument", "codes_of", "split_rows"]

TRAIN, TEST = 1, 2

# A holdout without random_state is the same rows at each search, also after the driver was started again.
_HOLDOUT_SEED = 0


@dataclass(frozen=True)
class Splits:
    """For each split what each row is: TRAIN, TEST or neither, one byte per row."""

    codes: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.codes)

    def positions(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the training and of the test rows of a split."""
        code = self.codes[number]
        return np.flatnonzero(code == TRAIN), np.flatnonzero(code == TEST)

    def digest(self) -> str:
        """A hash of all splits, equal for equal splits."""
        whole = hashlib.sha256()
        for code in self.codes:
            whole.update(code.tobytes())
        return whole.hexdigest()


def check_cv_argument(cv: Any) -> None:
    """Raise for a ``cv`` that cannot divide any rows.

    Parameters
    ----------
    cv : object
        What the user gave.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        With what would work.

    Examples
    --------
    >>> check_cv_argument(0.2)
    """
    if cv is None or isinstance(cv, bool):
        raise InvalidTypeError(
            f"cv={cv!r} must be a number of folds, a fraction to test on, a splitter, (train, test) pairs or a column"
        )
    if isinstance(cv, numbers.Integral) and cv < 2:
        raise InvalidValueError(f"cv={cv!r} must be at least 2 folds")
    if isinstance(cv, numbers.Real) and not isinstance(cv, numbers.Integral) and not 0 < float(cv) < 1:
        raise InvalidValueError(f"cv={cv!r}: a fraction to test on must lie between 0 and 1")


def split_rows(
    cv: Any, y: np.ndarray, groups: Any, column: Callable[[str], Any], *, classifies: bool, random_state: Any
) -> Splits:
    """Divide rows into folds.

    Parameters
    ----------
    cv : int, float, splitter, iterable of (train, test) or str
        See :class:`~raydp_ml.GridSearch`.
    y : numpy.ndarray
        Labels of the rows; for splitters of scikit-learn codes do.
    groups : array-like or None
        Groups of the rows.
    column : callable
        Gives the column that ``cv`` names.
    classifies : bool
        Whether a number of folds means stratified ones.
    random_state : int, RandomState or None
        Shuffles the rows before they are divided, when ``cv`` is a number.

    Raises
    ------
    InvalidValueError
        When these rows cannot be divided so, or a fold would have no row.
    """
    splitter = _splitter(cv, y, column, classifies, random_state)
    codes = []
    try:
        for train, test in splitter.split(np.zeros(len(y), np.int8), y, groups):
            code = np.zeros(len(y), np.uint8)
            for rows, side in ((train, TRAIN), (test, TEST)):
                if len(rows):  # an empty list is no array of positions to numpy
                    code[np.asarray(rows)] = side
            codes.append(code)
    except (ValueError, IndexError) as error:
        raise InvalidValueError(f"cv={cv!r} does not fit {len(y)} rows: {error}") from error
    if not codes:
        raise InvalidValueError(f"cv={cv!r} makes no folds of {len(y)} rows")
    for number, code in enumerate(codes):
        if not (code == TRAIN).any() or not (code == TEST).any():
            raise InvalidValueError(f"cv={cv!r} leaves fold {number} without rows to train or to test on")
    return Splits(codes)


def _splitter(cv: Any, y: np.ndarray, column: Callable[[str], Any], classifies: bool, random_state: Any) -> Any:
    if isinstance(cv, str):
        return PredefinedSplit(_fold_numbers(np.asarray(column(cv)), cv))
    if isinstance(cv, numbers.Real) and not isinstance(cv, numbers.Integral):
        kind = StratifiedShuffleSplit if classifies and y.ndim == 1 else ShuffleSplit
        seed = _HOLDOUT_SEED if random_state is None else random_state
        return kind(n_splits=1, test_size=float(cv), random_state=seed)
    splitter = check_cv(cv, y if y.ndim == 1 else None, classifier=classifies)
    if isinstance(cv, numbers.Integral) and random_state is not None:
        kind = StratifiedKFold if isinstance(splitter, StratifiedKFold) else KFold
        return kind(int(cv), shuffle=True, random_state=random_state)
    return splitter


def _fold_numbers(values: np.ndarray, name: str) -> np.ndarray:
    """Fold numbers for PredefinedSplit: -1 stays, other values are numbered in their order."""
    if (values.dtype.kind == "f" and np.isnan(values).any()) or (
        values.dtype == object and any(v is None for v in values)
    ):
        raise InvalidValueError(f"cv={name!r}: the column has nulls; -1 stands for rows that are never tested on")
    kinds, numbered = np.unique(values, return_inverse=True)
    numbered = numbered.reshape(-1).astype(int)
    if values.dtype.kind in "iuf":
        numbered[values == -1] = -1
        kinds = kinds[kinds != -1]
    if len(kinds) < 2 and not (numbered == -1).any():
        raise InvalidValueError(f"cv={name!r}: the column has {len(kinds)} value, so no rows are left to train on")
    return numbered


def codes_of(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of text or the like as integers that keep its order and its nulls; numbers stay what they are.

    Examples
    --------
    >>> codes_of(pa.chunked_array([["b", "a", None, "b"]])).to_pylist()
    [1, 0, None, 1]
    """
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return column
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    encoded = column.dictionary_encode().unify_dictionaries()
    if not encoded.num_chunks:
        return pa.chunked_array([], pa.int32())
    ranks = pc.array_sort_indices(encoded.chunk(0).dictionary)
    rank_of = np.empty(len(ranks), np.int32)
    rank_of[ranks.to_numpy()] = np.arange(len(ranks))
    places: Sequence[Any] = [pa.array(rank_of).take(chunk.indices) for chunk in encoded.chunks]
    return pa.chunked_array(list(places), pa.int32())
