"""Folds of arrays, and of frames whose rows lie in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.frames.registry import open_frame, require_frame
from raydp_ml.search.folds.fold import Fold, Part
from raydp_ml.search.folds.splits import Splits

__all__ = ["LocalFolds", "column_of", "count_rows", "take", "without_columns"]


@dataclass
class LocalFolds:
    """Arrays or a local frame in Ray's object store, and the splits."""

    X: Any
    y: Any
    weight: Any
    fit_params: Mapping[str, Any]
    aligned: frozenset[str]
    splits: Any

    @classmethod
    def put(cls, X: Any, y: Any, weight: Any, fit_params: Mapping[str, Any], splits: Splits) -> LocalFolds:
        """Put everything into the object store.

        Parameters
        ----------
        X : array or frame
            All rows.
        y, weight : array-like or None
            Labels and weights of the rows; None where a column has them.
        fit_params : mapping
            Further arguments of ``fit``; those that have an item for each row are divided as the rows are.
        splits : Splits
            The folds.
        """
        import ray

        rows = count_rows(X)
        aligned = frozenset(name for name, value in fit_params.items() if _has_rows(value, rows))
        stored = {name: ray.put(value) for name, value in fit_params.items()}
        return cls(ray.put(X), ray.put(y), ray.put(weight), stored, aligned, ray.put(splits))

    def fold(self, prefix: int, number: int) -> Fold:
        """One fold; there is nothing in front of the estimator, so the prefix does not matter."""
        import ray

        X, y, weight, splits = ray.get([self.X, self.y, self.weight, self.splits])
        train, test = splits.positions(number)
        fit_params = {
            name: take(value, train) if name in self.aligned else value
            for name, value in zip(self.fit_params, ray.get(list(self.fit_params.values())), strict=True)
        }
        return Fold(
            Part(take(X, train), take(y, train), take(weight, train)),
            Part(take(X, test), take(y, test), take(weight, test)),
            fit_params,
        )


def count_rows(X: Any) -> int:
    """How many rows an array or a frame in this process has."""
    shape = getattr(X, "shape", None)
    return int(shape[0]) if shape else len(X)


def _has_rows(value: Any, rows: int) -> bool:
    """Whether a fit parameter has an item for each row, as scikit-learn decides it."""
    if isinstance(value, str | bytes | Mapping) or not (hasattr(value, "__len__") or hasattr(value, "shape")):
        return False
    return getattr(value, "shape", (1,)) != () and count_rows(value) == rows


def take(rows: Any, positions: Sequence[int] | np.ndarray) -> Any:
    """Rows at these positions of an array, a frame, a table, a sparse matrix or a list."""
    if rows is None:
        return None
    frame = open_frame(rows)
    if frame is not None:
        return frame.take(positions)
    if hasattr(rows, "iloc"):  # a pandas Series
        return rows.iloc[positions]
    if hasattr(rows, "shape"):
        return rows[positions]
    return [rows[position] for position in positions]


def column_of(X: Any, name: Any) -> Any:
    """A column of a local frame, or several as a matrix."""
    frame = open_frame(X)
    names = [name] if isinstance(name, str) else list(name)
    present = [] if frame is None else [column.name for column in frame.columns()]
    missing = [one for one in names if one not in present]
    if frame is None or missing:
        raise InvalidValueError(f"X has no column {missing or names} (its columns: {', '.join(present) or 'none'})")
    pulled = frame.pull(names)
    return pulled[names[0]] if isinstance(name, str) else np.column_stack([pulled[one] for one in names])


def without_columns(X: Any, names: Sequence[str]) -> Any:
    """A frame without some columns."""
    if not names:
        return X
    return require_frame(X).drop(list(names))


def require_alignable(given: Mapping[str, Any], kind: str) -> None:
    """Raise for arguments of ``fit`` that a distributed frame cannot be given.

    Parameters
    ----------
    given : mapping
        ``sample_weight`` and further arguments, by name; None counts as not given.
    kind : str
        How messages call the frame.
    """
    wrong = [name for name, value in given.items() if value is not None]
    if wrong:
        raise InvalidTypeError(
            f"{', '.join(wrong)} cannot be given with a {kind}, whose rows are not in this process; weights stand in a column "
            "that the estimator's weight_column names"
        )
