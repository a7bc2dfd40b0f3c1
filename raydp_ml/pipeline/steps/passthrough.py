"""``"passthrough"``, or None: a step that does nothing, so that a search can switch a step off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raydp_ml.pipeline.steps.step import FeatureStep, LoadedStep, LoadingSteps, SavedStep

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["PASSTHROUGH", "PassthroughStep"]

PASSTHROUGH = "passthrough"


class PassthroughStep(FeatureStep):
    """A step that leaves the frame as it is."""

    kind = "passthrough"

    @classmethod
    def recognise(cls, value: Any) -> bool:
        return value is None or (isinstance(value, str) and value == PASSTHROUGH)

    @property
    def row_wise(self) -> bool:
        return True

    def apply(self, name: str, df: DataFrame) -> DataFrame:
        return df

    def describe(self) -> tuple[str, str]:
        return PASSTHROUGH, PASSTHROUGH

    @classmethod
    def save(cls, steps: Sequence[SavedStep], folder: Path) -> list[dict[str, Any]]:
        return [{} for _ in steps]

    @classmethod
    def load(cls, records: Sequence[Mapping[str, Any]], loading: LoadingSteps) -> list[LoadedStep]:
        return [LoadedStep(PASSTHROUGH, PASSTHROUGH) for _ in records]
