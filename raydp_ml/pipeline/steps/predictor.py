"""A predictor of Spark ML as the last step: Spark trains it, and its predictions come under the names of our columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import ClassifierTags, RegressorTags
from sklearn.utils.metaestimators import available_if

from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.metrics import evaluate_values, score_values
from raydp_ml.frames.columns import Feature
from raydp_ml.frames.table import collect
from raydp_ml.names import quoted
from raydp_ml.pipeline.steps.step import NOTHING, Beside, Final

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["PredictorFinal", "SparkPredictor", "is_predictor"]

# What a stage has that learns labels from features and predicts them; clusterings and recommenders have no label.
_PREDICTOR_PARAMS = {"featuresCol", "labelCol", "predictionCol"}


def is_predictor(params: Mapping[str, Any]) -> bool:
    """Whether a stage with these Params learns labels from features.

    Examples
    --------
    >>> is_predictor({"featuresCol": "features", "k": 2})
    False
    """
    return set(params) >= _PREDICTOR_PARAMS


class PredictorFinal(Final):
    """The last step of a pipeline, if it is a predictor of Spark ML.

    Parameters
    ----------
    params : mapping
        The values of its Params by name; None for one without a value.
    stage : callable
        Gives the stage itself, which is made in Spark's JVM if it is not there.
    """

    reads = 2  # Spark ML goes over the rows until it converges

    def __init__(self, params: Mapping[str, Any], stage: Callable[[], Any]) -> None:
        self._params = params
        self._stage = stage

    def fit(self, df: DataFrame, vector_column: str | None, beside: Beside = NOTHING) -> Any:
        from pyspark.ml import Estimator

        stage = self._stage()
        if not isinstance(stage, Estimator):
            return stage.copy()
        if vector_column is not None and not stage.isSet("featuresCol"):
            stage = stage.copy({stage.getParam("featuresCol"): vector_column})
        if beside.weight_column is not None:
            if not stage.hasParam("weightCol"):
                raise InvalidValueError(f"{type(stage).__name__} takes no weights, so sample_weight must be None")
            stage = stage.copy({stage.getParam("weightCol"): beside.weight_column})
        for param in ("featuresCol", "labelCol"):
            column = stage.getOrDefault(param)
            if column not in df.columns:
                raise InvalidValueError(
                    f"{type(stage).__name__} reads {param}={column!r}, and the frame has no such column (its columns: "
                    f"{', '.join(df.columns)})"
                )
        model = stage.fit(df)
        if beside.weight_column is not None:
            # The weights belong to this fit; rows to predict or to score have no such column.
            model.clear(model.getParam("weightCol"))
        return model

    def features(self) -> tuple[Feature, ...]:
        return (Feature(str(self._params["featuresCol"]), self._stage().numFeatures),)

    def estimator(self) -> SparkPredictor:
        return SparkPredictor(self._params, self._stage)


def _classifies(predictor: SparkPredictor) -> bool:
    if predictor.probability_column is None:
        raise AttributeError("the last step of the pipeline gives no probabilities")
    return True


class SparkPredictor(BaseEstimator):
    """A predictor of Spark ML with the methods of our estimators, for Spark DataFrames.

    Parameters
    ----------
    params : mapping
        The values of its Params by name.
    stage : callable
        Gives the stage itself.
    """

    def __init__(self, params: Mapping[str, Any], stage: Callable[[], Any]) -> None:
        self.params = params
        self.stage = stage

    @property
    def task(self) -> str:
        """Classification or regression."""
        return "classification" if "rawPredictionCol" in self.params else "regression"

    @property
    def label_column(self) -> str:
        """The column of the labels."""
        return str(self.params["labelCol"])

    @property
    def prediction_column(self) -> str:
        """The column of the predictions."""
        return str(self.params["predictionCol"])

    @property
    def probability_column(self) -> str | None:
        """The column of the probabilities; None when the predictor gives none."""
        return self.params.get("probabilityCol") or None

    @property
    def classes_(self) -> np.ndarray:
        """The labels of a fitted classifier: Spark's are the numbers from 0 on."""
        if self.task != "classification":
            raise AttributeError("the last step of the pipeline is no classifier, so it has no classes_")
        return np.arange(self.stage().numClasses, dtype=float)

    def predict(self, df: DataFrame) -> DataFrame:
        """The frame with the column of predictions; lazy."""
        return self._with(df, self.prediction_column)

    @available_if(_classifies)
    def predict_proba(self, df: DataFrame) -> DataFrame:
        """The frame with an array of probabilities for each row; lazy."""
        from pyspark.ml.functions import vector_to_array

        name = str(self.probability_column)
        predicted = self._with(df, name)
        return predicted.withColumn(name, vector_to_array(predicted[quoted(name)]))

    def _with(self, df: DataFrame, name: str) -> DataFrame:
        """The frame and one of the columns that the predictor makes."""
        kept = [quoted(column) for column in df.columns if column != name]
        return self.stage().transform(df.drop(name)).select(*kept, quoted(name))

    def score(self, df: DataFrame) -> float:
        """Accuracy of a classifier, R² of a regressor."""
        labels, values, weight = self._pull(self.predict(df), self.prediction_column)
        return score_values(self.task, labels, values, weight)

    def evaluate(self, df: DataFrame) -> dict[str, float]:
        """The metrics that our estimators give."""
        if self.probability_column is None:
            if self.task == "classification":
                return {"accuracy": self.score(df)}
            labels, values, weight = self._pull(self.predict(df), self.prediction_column)
            return evaluate_values(self.task, labels, values, None, weight)
        labels, values, weight = self._pull(self.predict_proba(df), self.probability_column)
        return evaluate_values(self.task, labels, np.vstack(list(values)), self.classes_, weight)

    def _pull(self, predicted: DataFrame, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        weight = self.params.get("weightCol")
        names = [self.label_column, name, *([weight] if weight else [])]
        table = collect(predicted.select(*map(quoted, names)))
        columns = [table[each].to_numpy() for each in names]
        return columns[0].astype(float), columns[1], columns[2] if weight else None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if self.task == "classification":
            tags.estimator_type, tags.classifier_tags = "classifier", ClassifierTags()
        else:
            tags.estimator_type, tags.regressor_tags = "regressor", RegressorTags()
        return tags
