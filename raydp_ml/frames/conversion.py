"""Input that a pipeline accepts besides Spark DataFrames, and how results go back to the caller's kind."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raydp_ml.errors import InvalidTypeError, InvalidValueError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["ROW", "collect", "frame_kind", "give_back", "to_spark_frame"]

# Numbers the rows of a pandas frame on their way through Spark.
ROW = "__raydp_ml_row__"


def frame_kind(X: Any) -> str:
    """ "spark", "pandas_on_spark", "pandas", "arrow", "ray" or "path".

    Parameters
    ----------
    X : object
        Input of a pipeline.

    Returns
    -------
    str
        Its kind.

    Examples
    --------
    >>> import pandas as pd
    >>> from raydp_ml.frames.conversion import frame_kind
    >>> frame_kind(pd.DataFrame({"a": [1]}))
    'pandas'
    """
    if isinstance(X, str | os.PathLike):
        return "path"
    module, name = type(X).__module__, type(X).__name__
    if module.startswith("pyspark.pandas"):
        return "pandas_on_spark"
    if module.startswith("pyspark.sql") and name == "DataFrame":
        return "spark"
    if module.startswith("pandas") and name == "DataFrame":
        return "pandas"
    if module.startswith("pyarrow") and name == "Table":
        return "arrow"
    if module.startswith("ray.data") and hasattr(X, "iter_batches"):
        return "ray"
    raise InvalidTypeError(
        "X must be a Spark, pandas-on-Spark or pandas DataFrame, a pyarrow Table, a Ray Dataset, or the path of a parquet "
        f"or CSV file; got {module}.{name}"
    )


def to_spark_frame(X: Any, session: Any, *, number_rows: bool = False) -> DataFrame:
    """A Spark DataFrame of the input.

    Parameters
    ----------
    X : object
        Input of a pipeline.
    session : callable
        Gives the Spark session; called only for kinds that are not Spark's already.
    number_rows : bool, default=False
        For pandas: add the column ``ROW``.

    Returns
    -------
    pyspark.sql.DataFrame
        The frame.
    """
    kind = frame_kind(X)
    if kind == "spark":
        return X
    if kind == "pandas_on_spark":
        return X.to_spark()
    spark = session()
    if kind == "path":
        return _read_path(X, spark)
    if kind == "ray":
        from raydp_ml.exchange import to_spark

        return to_spark(X, spark)
    if kind == "pandas":
        if number_rows:
            X = X.assign(**{ROW: np.arange(len(X))})
        return _from_arrow(_pandas_to_arrow(X), spark)
    return _from_arrow(X, spark)


def give_back(result: DataFrame, X: Any) -> Any:
    """A Spark result as the kind of frame that the input was; paths give Spark frames."""
    kind = frame_kind(X)
    if kind == "pandas_on_spark":
        return result.pandas_api()
    if kind == "arrow":
        return collect(result)
    if kind == "ray":
        from raydp_ml.exchange import from_spark

        return from_spark(result)
    return result


def collect(df: DataFrame) -> pa.Table:
    """All rows of a Spark DataFrame as an Arrow table in this process."""
    if hasattr(df, "toArrow"):
        return df.toArrow()
    import pyarrow as pa

    # Spark 3.5 has no public way that keeps nulls and types.
    batches = getattr(df, "_collect_as_arrow")()  # noqa: B009
    return pa.Table.from_batches(batches) if batches else pa.Table.from_pandas(df.limit(0).toPandas())


def _read_path(path: Any, spark: SparkSession) -> DataFrame:
    text = os.fspath(path)
    if "://" not in text:
        place = Path(text).expanduser().absolute()
        if not place.exists():
            raise InvalidValueError(f"there is no file or directory {text}")
        target = f"file://{place}"
    else:
        target = text
    names = [text]
    if "://" not in text and place.is_dir():
        names = [file.name for file in place.iterdir()]
    if any(name.endswith((".csv", ".csv.gz")) for name in names):
        return spark.read.csv(target, header=True, inferSchema=True)
    return spark.read.parquet(target)


def _pandas_to_arrow(frame: Any) -> pa.Table:
    """NaN stays NaN: Spark and the libraries tell a missing number from a null."""
    import pyarrow as pa

    columns = {}
    for position, name in enumerate(frame.columns):
        column = frame.iloc[:, position]
        if not isinstance(name, str) or name in columns:
            raise InvalidValueError(f"columns of a pandas frame need distinct names that are strings, got {name!r}")
        numpy_float = isinstance(column.dtype, np.dtype) and column.dtype.kind == "f"
        columns[name] = pa.array(column.to_numpy() if numpy_float else column, from_pandas=not numpy_float)
    return pa.table(columns)


def _from_arrow(table: pa.Table, spark: SparkSession) -> DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        if int(spark.version.split(".")[0]) >= 4:
            return spark.createDataFrame(table)
        return spark.createDataFrame(table.to_pandas())
