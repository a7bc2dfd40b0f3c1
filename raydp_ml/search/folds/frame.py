"""Folds of a Spark frame or a Ray Dataset that no step changes: it crosses once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from raydp_ml.errors import InvalidTypeError
from raydp_ml.estimators.base import EstimatorBase
from raydp_ml.frames.frame import Frame
from raydp_ml.search.folds.columns import load, named_columns, select_columns
from raydp_ml.search.folds.crossed import CrossedFold
from raydp_ml.search.folds.fold import Fold
from raydp_ml.search.folds.splits import Splits

__all__ = ["CrossedFolds", "FrameSource"]


@dataclass
class CrossedFolds:
    """The folds of one crossed frame."""

    crossed: list[CrossedFold]

    def fold(self, prefix: int, number: int) -> Fold:
        """One fold; there are no steps in front of the estimator, so the prefix does not matter."""
        return self.crossed[number].read()


class FrameSource:
    """Crosses the frame, and makes folds of it.

    Parameters
    ----------
    estimator : EstimatorBase
        It decides on the columns.
    frame : Frame
        The rows.
    extra : sequence of str
        Columns of groups or folds.
    as_codes : bool
        Whether codes of labels and groups will do.
    """

    def __init__(self, estimator: Any, frame: Frame, extra: Sequence[str], *, as_codes: bool) -> None:
        import ray

        if not isinstance(estimator, EstimatorBase):
            raise InvalidTypeError(
                f"{type(estimator).__name__} cannot be searched on a {frame.kind}: rows that are not in this process are read by "
                "estimators of raydp_ml, alone or as the last step of a SparkRayPipeline"
            )
        self._selection = select_columns(estimator, frame, None)
        self._described = [column for column in frame.columns() if column.name not in extra]
        self._blocks = load(frame, self._selection, extra)
        # These tables lie in shared memory; only the columns that divide the rows are read.
        tables = ray.get(self._blocks.refs)
        self._starts = [0, *np.cumsum([table.num_rows for table in tables]).tolist()]
        names = self._blocks.selection.label
        columns = [
            pa.chunked_array([chunk for table in tables for chunk in table[name].chunks], tables[0][name].type)
            for name in names
        ]
        self._crossed = replace(self._blocks.selection, label=names[: len(self._selection.label)])
        self.columns = named_columns(self._selection.label, extra, columns, as_codes=as_codes)

    def folds(self, splits: Splits) -> CrossedFolds:
        """The folds of these splits."""
        import ray

        return CrossedFolds(
            [
                CrossedFold(
                    self._blocks.refs,
                    self._crossed,
                    self._described,
                    self._selection,
                    codes=ray.put(code),
                    starts=self._starts[:-1],
                )
                for code in splits
            ]
        )
