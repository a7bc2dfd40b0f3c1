"""An estimator of raydp_ml, which trains with Ray on what the steps before it make."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator, clone

from raydp_ml.errors import InvalidTypeError
from raydp_ml.estimators.base import EstimatorBase
from raydp_ml.persistence.directory import read_folder, write_folder
from raydp_ml.pipeline.steps.sklearn_face import FOLDER, SklearnFaced
from raydp_ml.pipeline.steps.step import NOTHING, Beside, LoadedStep, LoadingSteps, SavedStep

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["EstimatorStep"]


class EstimatorStep(SklearnFaced):
    """An estimator of raydp_ml."""

    kind = "estimator"
    searched = True

    @classmethod
    def recognise(cls, value: Any) -> bool:
        if isinstance(value, EstimatorBase):
            return True
        if isinstance(value, BaseEstimator):
            raise InvalidTypeError(_why_not(value))
        return False

    @property
    def validation(self) -> Any:
        return self.value.validation

    @property
    def seed(self) -> int:
        state = self.value.random_state
        return state if isinstance(state, int) else 0

    @property
    def verbose(self) -> bool:
        return bool(self.value.verbose)

    @property
    def goes_on(self) -> bool:
        return bool(self.value.warm_start)

    def check_resume(self) -> None:
        self.value.check_resume()

    def fit(self, df: DataFrame, vector_column: str | None, beside: Beside = NOTHING) -> Any:
        estimator = self.copy()
        if beside.previous is not None:
            # What was learnt comes from before, and the parameters from now: those that were changed count.
            estimator = copy.copy(beside.previous).set_params(**estimator.get_params(deep=False))
        named = estimator.weight_column, estimator.validation
        if beside.weight_column is not None:
            estimator.weight_column = beside.weight_column
        if beside.held_out is not None:
            estimator.validation = beside.held_out
        estimator.fit_features(df, vector_column=vector_column, resume=beside.resume)
        estimator.weight_column, estimator.validation = named
        return estimator

    @classmethod
    def save(cls, steps: Sequence[SavedStep], folder: Path) -> list[dict[str, Any]]:
        for step in steps:
            (folder / FOLDER).mkdir()
            write_folder(step.given if step.fitted is None else step.fitted, folder / FOLDER)
        return [{} for _ in steps]

    @classmethod
    def load(cls, records: Sequence[Mapping[str, Any]], loading: LoadingSteps) -> list[LoadedStep]:
        loaded = []
        for record in records:
            estimator = read_folder(loading.folder / FOLDER, prefix=record["name"])
            loaded.append(LoadedStep(clone(estimator) if loading.fitted else estimator, estimator))
        return loaded


def _why_not(value: BaseEstimator) -> str:
    """Why an estimator of scikit-learn's kind that is none of ours cannot be a step, and what can."""
    name = type(value).__name__
    if type(value).__module__.startswith("raydp_ml."):
        return (
            f"a {name} cannot be a step of a pipeline; add its own steps to this one, or search over this pipeline with "
            "GridSearch(pipeline, ...)"
        )
    if hasattr(value, "predict"):
        return (
            f"{name} is neither a classifier nor a regressor, and only those of scikit-learn can be the last step of a pipeline; "
            "pyspark.ml.clustering has stages that find groups"
        )
    return (
        f"{name} is a scikit-learn transformer, which works on arrays in the memory of one process, and the rows of a "
        "pipeline are a distributed Spark DataFrame; use a stage of pyspark.ml.feature, SQL over __THIS__, or a function "
        "from DataFrame to DataFrame"
    )
