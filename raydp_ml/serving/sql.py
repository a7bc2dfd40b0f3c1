"""A LocalPipeline as a function of Spark's SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raydp_ml.frames.payload import Payload
from raydp_ml.frames.spark import spark_type
from raydp_ml.serving.local_pipeline import LocalPipeline
from raydp_ml.serving.model import Output

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["register"]


def register(local: LocalPipeline, session: SparkSession, name: str, output: Output) -> tuple[str, ...]:
    """Make a pipeline a function of SQL.

    Parameters
    ----------
    local : LocalPipeline
        What predicts, in Spark's Python workers.
    session : pyspark.sql.SparkSession
        Where the function is known.
    name : str
        Its name.
    output : {"prediction", "probability"}
        What it gives.

    Returns
    -------
    tuple of str
        The columns that are its arguments, in their order.
    """
    import cloudpickle
    import pyspark.sql.functions as F

    functions: Any = F  # its stubs do not know the functions of later versions
    names, returns = local.inputs, spark_type(local.final_with(output).arrow_type(output))
    payload = Payload(session.range(1), cloudpickle.dumps(local))

    def predict(columns: tuple[pa.Array, ...]) -> pa.Array:
        if len(columns) != len(names):
            raise TypeError(f"{name} takes {len(names)} arguments, {', '.join(names)}; it got {len(columns)}")
        sent: LocalPipeline = payload.value()
        return sent.predictions(pa.table(dict(zip(names, columns, strict=True))), output)

    if hasattr(functions, "arrow_udf"):

        def predict_arrow(*columns: pa.Array) -> pa.Array:
            return predict(columns)

        session.udf.register(name, functions.arrow_udf(predict_arrow, returnType=returns))
        return names

    import pandas as pd

    def predict_pandas(*columns: Any) -> Any:
        return predict(tuple(pa.array(column, from_pandas=True) for column in columns)).to_pandas()

    # Set by hand: pandas is imported here only, and Spark resolves written hints at module level.
    predict_pandas.__annotations__ = {"columns": pd.Series, "return": pd.Series}
    session.udf.register(name, functions.pandas_udf(predict_pandas, returnType=returns))
    return names
