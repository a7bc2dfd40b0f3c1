"""Rows of any kind of frame on their way into a pipeline, and what comes out in the kind of the caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.frames.pandas_frame import ROW, PandasFrame
from raydp_ml.frames.registry import require_frame
from raydp_ml.frames.table import collect

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

# The weights of a pandas frame's rows on their way through Spark.
WEIGHT = "__raydp_ml_weight__"

__all__ = ["WEIGHT", "predicted", "rows_in_spark", "schema_of", "transformed"]

Session = Callable[[], "SparkSession"]


def rows_in_spark(X: Any, y: Any, final: Any, session: Session, weights: Any = None) -> DataFrame:
    """A Spark DataFrame of the rows, with the labels as a column of it.

    Parameters
    ----------
    X : frame or path
        Rows.
    y : array-like or None
        Labels of a pandas frame.
    final : EstimatorBase or None
        The estimator that reads the labels.
    session : callable
        Gives the Spark session; called only for kinds that are not Spark's already.
    weights : array-like, optional
        Weights of the rows of a pandas frame, which become the column ``WEIGHT``.
    """
    frame = require_frame(X)
    if weights is not None:
        if not isinstance(frame, PandasFrame):
            raise InvalidTypeError(
                f"sample_weight goes with pandas frames; for {type(X).__name__} the weights are a column: set weight_column (or "
                "weightCol) of the last step"
            )
        values = np.asarray(weights, dtype=float)
        if values.shape != (len(X),):
            raise InvalidValueError(
                f"sample_weight must have one number for each of {len(X)} rows, it has the shape {values.shape}"
            )
        X = X.assign(**{WEIGHT: values})
        frame = PandasFrame(X)
    if y is not None:
        if not isinstance(frame, PandasFrame):
            raise InvalidTypeError(
                f"y goes with pandas frames; for {type(X).__name__} the label is a column: set label_column"
            )
        label = None if final is None else final.label_column
        frame = PandasFrame(X.assign(**{label if isinstance(label, str) else "label": y}))
    return frame.to_spark(session)


def transformed(X: Any, transform: Callable[[DataFrame], DataFrame], session: Session) -> Any:
    """The transformed rows as a frame of the kind of X; of Spark for paths.

    Parameters
    ----------
    X : frame or path
        Rows.
    transform : callable
        From Spark DataFrame to Spark DataFrame.
    session : callable
        Gives the Spark session.
    """
    frame = require_frame(X)
    return frame.give_back(transform(frame.to_spark(session)))


def predicted(X: Any, predict: Callable[[DataFrame], DataFrame], column: str, session: Session) -> Any:
    """The predictions as a frame of the kind of X, or for pandas as an array in the order of its rows.

    Parameters
    ----------
    X : frame or path
        Rows.
    predict : callable
        Appends the predictions to a Spark DataFrame.
    column : str
        Name of the column that it appends.
    session : callable
        Gives the Spark session.
    """
    frame = require_frame(X)
    if not isinstance(frame, PandasFrame):
        return frame.give_back(predict(frame.to_spark(session)))
    result = predict(frame.to_numbered_spark(session))
    if ROW not in result.columns:
        raise InvalidValueError(
            "predictions for a pandas frame are an array in the order of its rows, but a step drops the columns that it "
            f"does not name and with them {ROW!r}, which numbers the rows; keep all columns (SELECT *), or give a "
            "Spark DataFrame"
        )
    table = collect(result.select(ROW, column)).sort_by(ROW)
    if not np.array_equal(table[ROW].to_numpy(), np.arange(len(X))):
        raise InvalidValueError(
            f"the steps made {table.num_rows} rows of {len(X)} (rows dropped or repeated), so the predictions cannot be an "
            "array in the order of the rows; give a Spark DataFrame"
        )
    return np.asarray(table[column].to_pylist())


def schema_of(written: Mapping[str, Any] | None) -> StructType | None:
    """The schema that ``StructType.jsonValue`` wrote; None for None."""
    if written is None:
        return None
    from pyspark.sql.types import StructType

    return StructType.fromJson(dict(written))
