"""A function in place of a step that is a function of Spark DataFrames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.serving.columns import LocalFrame, arrow_of
from raydp_ml.serving.stage import LocalStage

__all__ = ["CallFunction"]


@dataclass(frozen=True)
class CallFunction(LocalStage):
    """A function from Arrow table to Arrow table, with a row for each row and in the same order.

    Attributes
    ----------
    function : callable
        It may read any column, so all that there are come to it.
    made : tuple of str
        The columns that it makes.
    """

    function: Callable[[pa.Table], pa.Table]
    made: tuple[str, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        return ()

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.made

    def transform(self, frame: LocalFrame) -> LocalFrame:
        table: Any = self.function(pa.table({name: arrow_of(column) for name, column in frame.columns.items()}))
        if not isinstance(table, pa.Table):
            raise InvalidTypeError(f"the function must return a pyarrow.Table, it returned {type(table).__name__}")
        if table.num_rows != frame.rows:
            raise InvalidValueError(
                f"the function must return a row for each row, it made {table.num_rows} of {frame.rows}"
            )
        missing = [name for name in self.made if name not in table.column_names]
        if missing:
            raise InvalidValueError(
                f"the function must make the columns that the step makes in Spark; {', '.join(map(repr, missing))} "
                f"is not among {', '.join(map(repr, table.column_names))}"
            )
        return LocalFrame(LocalFrame.from_arrow(table).columns, frame.positions)
