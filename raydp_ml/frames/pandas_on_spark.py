"""pandas-on-Spark frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from raydp_ml.frames.categories import known_categories
from raydp_ml.frames.columns import Selection
from raydp_ml.frames.spark import SparkFrame

if TYPE_CHECKING:
    import pyspark.sql

    from raydp_ml.frames.prediction import Predictor

__all__ = ["PandasOnSparkFrame"]


class PandasOnSparkFrame(SparkFrame):
    """A pandas-on-Spark frame, which is a Spark DataFrame with an index."""

    kind: ClassVar[str] = "pandas-on-Spark frame"

    def __init__(self, frame: Any) -> None:
        self._given = frame
        self._names = list(frame.index.names)
        self._index = [f"__raydp_index_{place}__" for place in range(len(self._names))]
        super().__init__(_with_categories(frame.to_spark(), frame))
        self._with_index = _with_categories(frame.to_spark(index_col=self._index), frame)

    def drop(self, names: Sequence[str]) -> Any:
        """The pandas-on-Spark frame without some columns, index kept."""
        return self._given.drop(columns=list(names))

    def with_predictions(self, predictor: Predictor, selection: Selection, output: str, name: str) -> Any:
        """The frame with a column of predictions, index kept."""
        scored = SparkFrame(self._with_index).with_predictions(predictor, selection, output, name)
        result = scored.pandas_api(index_col=self._index)
        result.index.names = self._names
        return result

    def give_back(self, result: pyspark.sql.DataFrame) -> Any:
        """A Spark DataFrame as a pandas-on-Spark frame, with an index of its own."""
        return result.pandas_api()


def _with_categories(rows: pyspark.sql.DataFrame, frame: Any) -> pyspark.sql.DataFrame:
    """The rows of a pandas-on-Spark frame, with its categories as Spark ML's metadata of their codes, as which Spark has them."""
    for name, dtype in frame.dtypes.items():
        if hasattr(dtype, "categories"):
            values = known_categories(dtype.categories.tolist(), str(name))
            rows = rows.withMetadata(str(name), {"ml_attr": {"type": "nominal", "vals": list(values)}})
    return rows
