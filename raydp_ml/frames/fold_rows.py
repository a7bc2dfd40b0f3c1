"""Rows that crossed to the trials of a search, in memory there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.frames.arrays import Arrays
from raydp_ml.frames.categories import Category
from raydp_ml.frames.columns import Column, Selection
from raydp_ml.frames.frame import Frame
from raydp_ml.frames.layouts import null_rows
from raydp_ml.frames.prediction import Predictor

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["FoldRows"]


def _described(selection: Selection) -> list[str]:
    return [f"{feature.name} ({'sparse' if selection.sparse else feature.dtype})" for feature in selection.features]


@dataclass
class FoldRows(Frame):
    """Rows in memory behind the face of a frame.

    ``described`` are the columns of the frame that crossed, ``selection`` those that were read from it, and
    ``vector_column`` the one that the last step of the pipeline made.
    """

    kind: ClassVar[str] = "fold of a search"

    arrays: Arrays
    described: list[Column]
    selection: Selection
    vector_column: str | None = None

    def __len__(self) -> int:
        return len(self.arrays)

    def count(self) -> int:
        """How many rows there are."""
        return len(self)

    def columns(self) -> list[Column]:
        """Describe the columns of the frame that crossed."""
        return self.described

    def vector_width(self, name: str) -> int:
        """The length of the vectors in a column."""
        widths = {feature.name: feature.width for feature in self.selection.features}
        if name not in widths:
            raise InvalidValueError(f"column {name!r} did not cross to the trials of the search")
        return widths[name]

    def categories(self, names: Sequence[str]) -> dict[str, tuple[Category, ...]]:
        """The categories of columns, which crossed as codes."""
        known = {feature.name: feature.nominal for feature in self.selection.features}
        return {name: tuple(known[name][0].values) for name in names if known.get(name)}

    def load(self, selection: Selection) -> Arrays:
        """The selected columns, which must be those that crossed."""
        if selection.features != self.selection.features or selection.sparse != self.selection.sparse:
            raise InvalidValueError(
                f"the estimator reads {_described(selection)}, but the search made {_described(self.selection)} for it"
            )
        kept = {role: getattr(self.arrays, role) for role in selection.roles}
        return Arrays(self.arrays.X, self.arrays.label if selection.label else None, **kept)

    def with_predictions(self, predictor: Predictor, selection: Selection, output: str, name: str) -> np.ndarray:
        """Predictions as numpy."""
        X: Any = self.arrays.X
        beside = selection.features[len(self.selection.features) :]
        if beside:  # columns with a role that predictions read, too
            columns = self.pull([feature.name for feature in beside])
            X = np.column_stack([X, *(columns[feature.name] for feature in beside)]).astype(np.float32)
        return predictor.to_numpy(X, output)

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
        nulls = null_rows(self.arrays.X)
        return self if nulls is None else replace(self, arrays=self.arrays.take(~nulls))

    def to_spark(self, session: Callable[[], SparkSession]) -> NoReturn:
        """Raises: the rows of a fold stay in the trial."""
        raise InvalidTypeError("the rows of a fold are in the process of a trial and do not go back to Spark")
