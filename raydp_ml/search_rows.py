"""The rows of a fold, as the trials of a search read them.

A pipeline's frame crosses to Ray with its features assembled (see ``SparkFrame.load``). A trial cuts the crossed blocks
into training and test rows; :class:`FoldRows` shows them to the estimator under the names of the original columns, so
that it chooses the columns, and trains, as it would on the frame itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.columns import Column, Selection
from raydp_ml.estimators.data import Arrays, arrays_of_table

__all__ = ["CrossedFold", "FoldRows", "LocalFolds", "as_frame", "take"]

TRAIN, TEST = 1, 2


@dataclass
class FoldRows:
    """Rows in memory behind the face of a frame.

    ``described`` are the columns of the frame that crossed, ``selection`` those that were read from it, and
    ``vector_column`` the one that the last step of the pipeline made.
    """

    kind: ClassVar[str] = "fold of a search"
    distributed: ClassVar[bool] = False

    arrays: Arrays
    described: list[Column]
    selection: Selection
    vector_column: str | None = None

    def __len__(self) -> int:
        return len(self.arrays)

    def columns(self) -> list[Column]:
        """Describe the columns of the frame that crossed."""
        return self.described

    def vector_width(self, name: str) -> int:
        """The length of the vectors in a column."""
        widths = {feature.name: feature.width for feature in self.selection.features}
        if name not in widths:
            raise InvalidValueError(f"column {name!r} did not cross to the trials of the search")
        return widths[name]

    def load(self, selection: Selection) -> Arrays:
        """The selected columns, which must be those that crossed."""
        if selection.features != self.selection.features:
            raise InvalidValueError(
                f"the estimator reads {[feature.name for feature in selection.features]}, but the search made "
                f"{[feature.name for feature in self.selection.features]} for it"
            )
        kept = {role: getattr(self.arrays, role) for role in selection.roles}
        return Arrays(self.arrays.X, self.arrays.label if selection.label else None, **kept)

    def with_scores(self, scorer: Any, selection: Selection, output: str, name: str) -> np.ndarray:
        """Scores as numpy."""
        return scorer.to_numpy(self.arrays.X, output)

    def pull(self, names: list[str]) -> dict[str, np.ndarray]:
        """Label and weight columns."""
        label: Any = self.arrays.label
        by_name: dict[str, Any] = {}
        for place, column in enumerate(self.selection.label):
            by_name[column] = label if len(self.selection.label) == 1 else label[:, place]
        for role, column in self.selection.roles.items():
            by_name[column] = getattr(self.arrays, role)
        return {column: by_name[column] for column in names}

    def without_nulls(self) -> FoldRows:
        """The rows that have all features."""
        keep = ~np.isnan(self.arrays.X).any(axis=1)
        return self if keep.all() else replace(self, arrays=self.arrays.take(keep))


def as_frame(rows: FoldRows) -> FoldRows:
    """The adapter of :class:`FoldRows` in the registry of frames: it is one already."""
    return rows


@dataclass
class CrossedFold:
    """Where a trial finds the rows of one fold, in Ray's object store.

    What a row is (TRAIN, TEST or neither) stands in ``codes``, by the number of the row. Without ``starts``, which has the
    number of each block's first row, the blocks hold one more label column than ``selection`` that tells the row's id
    (see :func:`row_numbers`) or, without codes, directly what it is.
    """

    refs: list[Any]
    crossed: Selection
    described: list[Column]
    selection: Selection
    codes: Any = None
    starts: list[int] | None = None
    offsets: np.ndarray | None = None
    vector_column: str | None = None

    def read(self) -> tuple[FoldRows, FoldRows]:
        """Training and test rows."""
        import ray

        codes: Any = None if self.codes is None else ray.get(self.codes)
        parts: dict[int, list[Arrays]] = {TRAIN: [], TEST: []}
        crossed, membership = self.crossed, ""
        if self.starts is None:
            *label, membership = self.crossed.label
            crossed = Selection(self.crossed.features, tuple(label), self.crossed.roles)
        for place, table in enumerate(ray.get(self.refs)):
            arrays = arrays_of_table(table, crossed)
            if self.starts is not None:
                code = codes[self.starts[place] : self.starts[place] + len(arrays)]
            elif codes is None or self.offsets is None:
                code = table[membership].to_numpy()
            else:
                code = codes[row_numbers(table[membership].to_numpy(), self.offsets)]
            for what, chosen in parts.items():
                chosen.append(arrays.take(code == what))
        train, test = (self._rows(Arrays.concat(parts[what])) for what in (TRAIN, TEST))
        return train, test

    def _rows(self, arrays: Arrays) -> FoldRows:
        return FoldRows(arrays, self.described, self.selection, self.vector_column)


def row_numbers(identifiers: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Numbers without gaps from Spark's monotonically increasing ids.

    Examples
    --------
    >>> row_numbers(np.array([0, 1, 1 << 33]), np.array([0, 2])).tolist()
    [0, 1, 2]
    """
    return offsets[identifiers >> 33] + (identifiers & ((1 << 33) - 1))


@dataclass
class LocalFolds:
    """Arrays or a local frame in Ray's object store, and the positions of each fold."""

    X: Any
    y: Any
    splits: Any
    y_in_frame: bool

    def fold(self, prefix: int, number: int) -> tuple[Any, Any, Any, Any]:
        """Training rows and labels, test rows and labels."""
        import ray

        X, y, splits = ray.get([self.X, self.y, self.splits])
        train, test = splits[number]
        return take(X, train), take(y, train), take(X, test), take(y, test)


def take(rows: Any, positions: Sequence[int] | np.ndarray) -> Any:
    """Rows at these positions of an array, a frame, a table, a sparse matrix or a list."""
    if rows is None:
        return None
    if hasattr(rows, "iloc"):
        return rows.iloc[positions]
    if hasattr(rows, "take") and hasattr(rows, "schema"):
        return rows.take(positions)
    if hasattr(rows, "shape"):
        return rows[positions]
    return [rows[position] for position in positions]
