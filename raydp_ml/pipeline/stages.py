"""The steps of a pipeline before its estimator: what kind each is, how it is copied, fitted, applied and described."""

from __future__ import annotations

import uuid
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from sklearn.base import clone

from raydp_ml.errors import InvalidTypeError, InvalidValueError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = [
    "PASSTHROUGH",
    "THIS",
    "apply_step",
    "copy_step",
    "describe_step",
    "fit_step",
    "is_row_wise",
    "kind_of",
    "new_vector_column",
    "set_stage_params",
    "stage_params",
]

THIS = "__THIS__"
PASSTHROUGH = "passthrough"


def kind_of(step: Any) -> str:
    """What a step is: "spark", "estimator", "function", "sql" or "passthrough".

    Parameters
    ----------
    step : object
        A step of a pipeline.

    Returns
    -------
    str
        Its kind.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        When it is none of them.

    Examples
    --------
    >>> from raydp_ml.pipeline.stages import kind_of
    >>> kind_of("SELECT a + b AS c FROM __THIS__")
    'sql'
    """
    if step is None or step == PASSTHROUGH:
        return "passthrough"
    if isinstance(step, str):
        if THIS not in step:
            raise InvalidValueError(f"a SQL step reads from {THIS}, the frame so far, and {step!r} does not")
        return "sql"
    if isinstance(step, type):
        raise InvalidTypeError(f"a step must be an object, got the class {step.__name__}; write {step.__name__}(...)")
    if _is_spark_stage(step):
        return "spark"
    if all(callable(getattr(step, name, None)) for name in ("fit", "predict", "get_params")):
        return "estimator"
    if isinstance(step, FunctionType | BuiltinFunctionType | MethodType) or callable(step):
        return "function"
    raise InvalidTypeError(
        f"a step must be a pyspark.ml Transformer or Estimator, a function from DataFrame to DataFrame, a SQL string over "
        f"{THIS}, or last an estimator of raydp_ml; got {step!r}"
    )


def _is_spark_stage(step: Any) -> bool:
    # By name first: asking for the class would import pyspark for pipelines that have no such stage.
    if not any(base.__module__.startswith("pyspark.ml") for base in type(step).__mro__):
        return False
    from pyspark.ml import Estimator, Transformer

    return isinstance(step, Estimator | Transformer)


def copy_step(step: Any) -> Any:
    """An independent, unfitted copy of a step."""
    kind = kind_of(step)
    if kind == "spark":
        return step.copy()
    if kind == "estimator":
        return clone(step)
    return step


def fit_step(step: Any, df: DataFrame) -> Any:
    """The fitted form of a step: the model of a Spark ML Estimator, a copy of any other step."""
    if kind_of(step) == "spark":
        from pyspark.ml import Estimator

        if isinstance(step, Estimator):
            return step.fit(df)
    return copy_step(step)


def learns(step: Any) -> bool:
    """Whether fitting the step looks at rows."""
    if kind_of(step) != "spark":
        return False
    from pyspark.ml import Estimator

    return isinstance(step, Estimator)


def is_row_wise(step: Any) -> bool:
    """Whether a step certainly neither learns nor looks at more than one row, and keeps columns that it does not know."""
    kind = kind_of(step)
    if kind == "passthrough":
        return True
    if kind != "spark" or learns(step):
        return False
    return type(step).__module__ == "pyspark.ml.feature" and type(step).__name__ != "SQLTransformer"


def apply_step(name: str, step: Any, df: DataFrame) -> DataFrame:
    """The frame after a fitted step.

    Parameters
    ----------
    name : str
        Name of the step, for messages.
    step : object
        A fitted step that is no estimator of ours.
    df : pyspark.sql.DataFrame
        The frame before it.

    Returns
    -------
    pyspark.sql.DataFrame
        Lazy, as always in Spark.
    """
    kind = kind_of(step)
    if kind == "passthrough":
        return df
    if kind == "spark":
        return step.transform(df)
    if kind == "sql":
        view = "raydp_ml_" + uuid.uuid4().hex
        df.createOrReplaceTempView(view)
        try:
            return df.sparkSession.sql(step.replace(THIS, view))
        finally:
            # The view was resolved when the statement was; nothing refers to its name any more.
            df.sparkSession.catalog.dropTempView(view)
    result = step(df)
    if not hasattr(result, "sparkSession") or not hasattr(result, "schema"):
        raise InvalidTypeError(
            f"the function of step {name!r} must return a Spark DataFrame, it returned {type(result).__name__}"
        )
    return result


def new_vector_column(step: Any, before: DataFrame, after: DataFrame) -> str | None:
    """The vector column that a step made, if it made one: its output column, or else the last that was not there."""
    from pyspark.ml.linalg import VectorUDT

    vectors = [field.name for field in after.schema.fields if isinstance(field.dataType, VectorUDT)]
    if kind_of(step) == "spark" and step.hasParam("outputCol") and step.isDefined("outputCol"):
        made = step.getOrDefault("outputCol")
        if made in vectors:
            return made
    old = set(before.columns)
    fresh = [name for name in vectors if name not in old]
    return fresh[-1] if fresh else None


def stage_params(stage: Any) -> dict[str, Any]:
    """Spark ML Params of a stage by name; None for those without a value.

    Examples
    --------
    >>> from raydp_ml.pipeline.stages import stage_params
    >>> stage_params(VectorAssembler(inputCols=["a"]))["inputCols"]  # doctest: +SKIP
    ['a']
    """
    return {param.name: stage.getOrDefault(param) if stage.isDefined(param) else None for param in stage.params}


def set_stage_params(name: str, stage: Any, params: dict[str, Any]) -> None:
    """Set Spark ML Params of a stage by name; None takes a value away.

    Parameters
    ----------
    name : str
        Name of the step, for messages.
    stage : pyspark.ml.param.Params
        The stage, which is changed.
    params : dict
        Values by name.
    """
    known = [param.name for param in stage.params]
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise InvalidValueError(
            f"step {name!r}, a {type(stage).__name__}, has no parameter {', '.join(map(repr, unknown))}; it has "
            f"{', '.join(sorted(known))}"
        )
    for key, value in params.items():
        if value is None:
            stage.clear(stage.getParam(key))
            continue
        try:
            stage._set(**{key: value})
        except TypeError as error:
            raise InvalidTypeError(f"{name}__{key}={value!r}: {error}") from error


def describe_step(step: Any) -> tuple[str, str]:
    """A title and details of a step, for the diagram."""
    kind = kind_of(step)
    if kind == "sql":
        return "SQL", step
    if kind == "passthrough":
        return PASSTHROUGH, PASSTHROUGH
    if kind == "function":
        title = getattr(step, "__name__", type(step).__name__)
        return f"{title}()", str(getattr(step, "__doc__", None) or step)
    if kind == "spark":
        given = {param.name: step.getOrDefault(param) for param in step.params if step.isSet(param)}
        inside = ",\n    ".join(f"{key}={value!r}" for key, value in given.items())
        return type(step).__name__, f"{type(step).__name__}(\n    {inside}\n)" if given else f"{type(step).__name__}()"
    return type(step).__name__, str(step)
