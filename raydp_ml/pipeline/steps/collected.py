"""An estimator of scikit-learn, which trains in this process on what the steps before it make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor

from raydp_ml.persistence.directory import read_folder, write_folder
from raydp_ml.pipeline.collected import CollectedEstimator
from raydp_ml.pipeline.steps.sklearn_face import FOLDER, SklearnFaced
from raydp_ml.pipeline.steps.step import NOTHING, Beside, LoadedStep, LoadingSteps, SavedStep

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["CollectedStep"]


class CollectedStep(SklearnFaced):
    """A classifier or regressor of scikit-learn; its fitted form is a :class:`CollectedEstimator`."""

    kind = "collected"
    searched = True
    reads = 2  # one of them counts the rows

    @classmethod
    def recognise(cls, value: Any) -> bool:
        if isinstance(value, CollectedEstimator):
            return True
        ours = type(value).__module__.startswith("raydp_ml.")
        return isinstance(value, BaseEstimator) and not ours and (is_classifier(value) or is_regressor(value))

    def estimator(self) -> CollectedEstimator:
        return self.value if isinstance(self.value, CollectedEstimator) else CollectedEstimator(self.value)

    def fit(self, df: DataFrame, vector_column: str | None, beside: Beside = NOTHING) -> Any:
        estimator = clone(self.estimator())
        named = estimator.weight_column
        if beside.weight_column is not None:
            estimator.weight_column = beside.weight_column
        estimator.fit_features(df, vector_column=vector_column)
        estimator.weight_column = named
        return estimator

    @classmethod
    def save(cls, steps: Sequence[SavedStep], folder: Path) -> list[dict[str, Any]]:
        records = []
        for step in steps:
            (folder / FOLDER).mkdir()
            write_folder(cls(step.given).estimator() if step.fitted is None else step.fitted, folder / FOLDER)
            records.append({"bare": not isinstance(step.given, CollectedEstimator)})
        return records

    @classmethod
    def load(cls, records: Sequence[Mapping[str, Any]], loading: LoadingSteps) -> list[LoadedStep]:
        loaded = []
        for record in records:
            estimator = read_folder(loading.folder / FOLDER, prefix=record["name"])
            given = clone(estimator) if loading.fitted else estimator
            loaded.append(LoadedStep(given.estimator if record["bare"] else given, estimator))
        return loaded
