"""A description of a Spark ML stage, from :mod:`raydp_ml.feature`: written down before Spark runs, made real at fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raydp_ml.feature.stage import Stage, from_dict
from raydp_ml.persistence.directory import current_trust
from raydp_ml.pipeline.stage_files import stage_class
from raydp_ml.pipeline.steps.predictor import PredictorFinal, is_predictor
from raydp_ml.pipeline.steps.spark_stage import SparkStageStep, read_below, record_in_folder, write_below
from raydp_ml.pipeline.steps.step import FeatureStep, Final, LoadedStep, LoadingSteps, SavedStep

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["DescriptionStep"]


class DescriptionStep(FeatureStep):
    """A description of a stage of Spark ML, whose fitted form is a stage of Spark ML itself.

    In a saved directory the description is its class and the values that were given, and the fitted stage is in Spark ML's own
    format below ``stages``.
    """

    kind = "description"
    draws_itself = True

    @classmethod
    def recognise(cls, value: Any) -> bool:
        return isinstance(value, Stage)

    def copy(self) -> Any:
        return self.value.copy()

    def get_params(self) -> dict[str, Any]:
        return self.value.get_params(deep=True)

    def set_params(self, name: str, params: Mapping[str, Any]) -> None:
        self.value.set_params(**params)

    @property
    def learns(self) -> bool:
        return self.value.is_estimator

    @property
    def row_wise(self) -> bool:
        kind = self.value.spark_class
        return not self.learns and kind.__module__ == "pyspark.ml.feature" and kind.__name__ != "SQLTransformer"

    def fit(self, df: DataFrame) -> Any:
        return SparkStageStep(self.value.to_spark()).fit(df)

    def apply(self, name: str, df: DataFrame) -> DataFrame:
        return self.value.to_spark().transform(df)

    def as_final(self) -> Final | None:
        params = self.value.get_params(deep=False)
        return PredictorFinal(params, self.value.to_spark) if is_predictor(params) else None

    # ---- saved directories -----------------------------------------------------------------------------------------

    @classmethod
    def save(cls, steps: Sequence[SavedStep], folder: Path) -> list[dict[str, Any]]:
        records = []
        with_files: dict[str, Any] = {}
        for step in steps:
            record: dict[str, Any] = {"given": step.given.to_dict()}
            if step.fitted is not None:
                record["fitted"] = record_in_folder(step.fitted, f"stages/{step.folder}", with_files)
            records.append(record)
        write_below(folder, with_files)
        return records

    @classmethod
    def load(cls, records: Sequence[Mapping[str, Any]], loading: LoadingSteps) -> list[LoadedStep]:
        trust = current_trust()
        given = [from_dict(record["given"], lambda name: stage_class(name, trust)) for record in records]
        if not loading.fitted:
            return [LoadedStep(stage, None) for stage in given]
        loading.session()
        fitted = read_below(loading.folder, [record["fitted"] for record in records])
        return [LoadedStep(stage, done) for stage, done in zip(given, fitted, strict=True)]
