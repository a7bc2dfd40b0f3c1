"""From a fitted SparkRayPipeline to what a LocalPipeline does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.estimators.tasks import predicts_probabilities
from raydp_ml.pipeline.steps import feature_step, final_of
from raydp_ml.pipeline.steps.collected import CollectedStep
from raydp_ml.pipeline.steps.estimator import EstimatorStep
from raydp_ml.pipeline.steps.function import FunctionStep
from raydp_ml.pipeline.steps.passthrough import PassthroughStep
from raydp_ml.pipeline.steps.predictor import PredictorFinal
from raydp_ml.pipeline.steps.spark_stage import SparkStageStep
from raydp_ml.pipeline.steps.sql import SQLStep
from raydp_ml.pipeline.steps.step import FeatureStep
from raydp_ml.serving.columns import SPARK_VECTOR
from raydp_ml.serving.extraction import local_stage
from raydp_ml.serving.functions import CallFunction
from raydp_ml.serving.local_pipeline import LocalSteps
from raydp_ml.serving.model import LocalFinal, LocalModel, LocalPredictor, Output
from raydp_ml.serving.stage import Chain, LocalStage

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import DataType, StructType

    from raydp_ml.pipeline.pipeline import SparkRayPipeline

__all__ = ["local_steps"]

Functions = Mapping[str, Callable[[pa.Table], pa.Table]]


def local_steps(pipeline: SparkRayPipeline, functions: Functions) -> tuple[LocalSteps, Any]:
    """What a fitted pipeline does, without Spark.

    Parameters
    ----------
    pipeline : SparkRayPipeline
        A fitted one.
    functions : mapping of str to callable
        For steps that are functions, those from Arrow table to Arrow table that stand in for them.

    Returns
    -------
    steps : LocalSteps
        All that it does.
    model : object or None
        The architecture of the estimator's model, which some libraries need to read weights.
    """
    if pipeline.input_schema_ is None:
        raise InvalidValueError(
            "this pipeline does not know the columns of its training rows, which its local form reads: it is a slice without the "
            "first step, or was saved by an earlier version; fit the whole pipeline again"
        )
    fitted, last = list(pipeline.steps_), None
    if fitted and final_of(fitted[-1][1]) is not None:
        last = fitted.pop()
    named = {name for name, value in fitted if isinstance(feature_step(name, value), FunctionStep)}
    unknown = sorted(set(functions) - named)
    if unknown:
        raise InvalidValueError(
            f"functions names {', '.join(map(repr, unknown))}, which is no step that is a function; those are "
            f"{', '.join(map(repr, sorted(named))) or 'none'}"
        )
    _refuse([(name, feature_step(name, value)) for name, value in fitted], functions)
    # A frame without rows has what is asked for: the schema after each step.
    frame = pipeline.session_.createDataFrame([], pipeline.input_schema_)
    stages: list[tuple[str, LocalStage]] = []
    for name, value in fitted:
        step = feature_step(name, value)
        after = step.apply(name, frame)
        try:
            stages += [(name, stage) for stage in _stages(name, step, frame, after, functions)]
        except (InvalidTypeError, InvalidValueError) as error:
            raise type(error)(f"step {name!r}: {error}") from error
        frame = after
    schema = _arrow_schema(pipeline.input_schema_)
    final, model = (None, None) if last is None else _final(*last, frame)
    return LocalSteps(tuple(stages), final, schema), model


def _final(name: str, value: Any, frame: DataFrame) -> tuple[LocalFinal, Any]:
    """The last step, and the architecture of its model."""
    step = final_of(value)
    if step is None:
        raise InvalidTypeError(f"step {name!r}, a {type(value).__name__}, is no estimator")
    estimator = step.estimator()
    names: dict[Output, str] = {"prediction": estimator.prediction_column}
    if isinstance(step, EstimatorStep | CollectedStep):
        predictor, features = estimator.serving_form()
        predictor = replace(predictor, fitted=predictor.fitted.for_serving())
        if predicts_probabilities(predictor.task) and hasattr(estimator, "predict_proba"):
            names["probability"] = estimator.probability_column
        return LocalModel(predictor, features, names), estimator.get_params(deep=False).get("model")
    if isinstance(step, PredictorFinal):
        try:
            stage = local_stage(value, frame)
        except InvalidTypeError as error:
            raise InvalidTypeError(f"step {name!r}: {error}") from error
        if estimator.probability_column in stage.outputs:
            names["probability"] = estimator.probability_column
        classes = tuple(estimator.classes_.tolist()) if estimator.task == "classification" else ()
        return LocalPredictor(stage, names, classes), None
    raise InvalidTypeError(f"step {name!r}, a {type(value).__name__}, works in Spark only")


def _refuse(steps: list[tuple[str, FeatureStep]], functions: Functions) -> None:
    """Raise for all steps that certainly work in Spark only."""
    reasons = []
    for name, step in steps:
        if isinstance(step, SQLStep):
            reasons.append(f"{name!r} is SQL, and another engine's dialect would differ without a word")
        elif isinstance(step, FunctionStep) and name not in functions:
            reasons.append(
                f"{name!r} is a function of Spark DataFrames; to_local(functions={{{name!r}: ...}}) takes one from "
                "pyarrow.Table to pyarrow.Table in its place"
            )
    if reasons:
        raise InvalidTypeError(f"steps of this pipeline work in Spark only: {'; '.join(reasons)}")


def _stages(
    name: str, step: FeatureStep, before: DataFrame, after: DataFrame, functions: Functions
) -> Iterator[LocalStage]:
    if isinstance(step, PassthroughStep):
        return
    if isinstance(step, FunctionStep):
        made = tuple(column for column in after.columns if column not in before.columns)
        yield CallFunction(functions[name], made)
    elif isinstance(step, SparkStageStep):
        yield from _flat(local_stage(step.value, before))
    else:
        raise InvalidTypeError(f"a {step.kind} step works in Spark only")


def _flat(stage: LocalStage) -> Iterator[LocalStage]:
    """The stages of a pipeline in a pipeline, so that those that a prediction does not need can be left out."""
    if isinstance(stage, Chain) and not stage.dropped:
        for inner in stage.stages:
            yield from _flat(inner)
    else:
        yield stage


def _arrow_schema(schema: StructType) -> pa.Schema:
    return pa.schema([(field.name, kind) for field in schema if (kind := _arrow_type(field.dataType)) is not None])


def _arrow_type(kind: DataType) -> pa.DataType | None:
    """The Arrow type of a column; None where there is none, so that a prediction cannot need it."""
    from pyspark.errors import PySparkException
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql.pandas.types import to_arrow_type

    if isinstance(kind, VectorUDT):
        return SPARK_VECTOR
    try:
        return to_arrow_type(kind)
    except (PySparkException, TypeError):
        return None
