"""Folds whose rows crossed from Spark or Ray Data, as the trials of a search read them.

A frame crosses to Ray with its features assembled (see ``SparkFrame.load``). A trial cuts the crossed blocks
into training and test rows; :class:`FoldRows` shows them to the estimator under the names of the original columns, so
that it chooses the columns, and trains, as it would on the frame itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raydp_ml.frames.arrays import Arrays, arrays_of_table
from raydp_ml.frames.columns import Column, Selection
from raydp_ml.frames.fold_rows import FoldRows
from raydp_ml.search.folds.fold import Fold, Part
from raydp_ml.search.folds.splits import TEST, TRAIN

__all__ = ["CrossedFold", "row_numbers"]


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

    def read(self) -> Fold:
        """The rows, which carry labels and weights inside."""
        import ray

        codes: Any = None if self.codes is None else ray.get(self.codes)
        parts: dict[int, list[Arrays]] = {TRAIN: [], TEST: []}
        crossed, membership = self.crossed, ""
        if self.starts is None:
            *label, membership = self.crossed.label
            crossed = replace(self.crossed, label=tuple(label))
        for number, table in enumerate(ray.get(self.refs)):
            arrays = arrays_of_table(table, crossed)
            if self.starts is not None:
                code = codes[self.starts[number] : self.starts[number] + len(arrays)]
            elif codes is None or self.offsets is None:
                code = table[membership].to_numpy()
            else:
                code = codes[row_numbers(table[membership].to_numpy(), self.offsets)]
            for side, chosen in parts.items():
                chosen.append(arrays.take(code == side))
        train, test = (self._rows(Arrays.concat(parts[side])) for side in (TRAIN, TEST))
        return Fold(Part(train), Part(test))

    def _rows(self, arrays: Arrays) -> FoldRows:
        return FoldRows(arrays, self.described, self.selection, self.vector_column)


def row_numbers(identifiers: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Numbers without gaps from Spark's monotonically increasing ids.

    Examples
    --------
    >>> row_numbers(np.array([0, 1, 1 << 33]), np.array([0, 2])).tolist()
    [0, 1, 2]
    """
    positions: np.ndarray = offsets[identifiers >> 33] + (identifiers & ((1 << 33) - 1))
    return positions
