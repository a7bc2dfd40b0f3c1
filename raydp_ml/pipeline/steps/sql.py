"""A SQL statement over ``__THIS__``, the frame so far."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raydp_ml.errors import InvalidValueError
from raydp_ml.persistence.directory import current_trust
from raydp_ml.pipeline.steps.step import FeatureStep, LoadedStep, LoadingSteps, SavedStep

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["THIS", "SQLStep"]

THIS = "__THIS__"


class SQLStep(FeatureStep):
    """A SQL statement, in the dialect of the session that runs it."""

    kind = "sql"
    replaceable = True

    @classmethod
    def recognise(cls, value: Any) -> bool:
        if not isinstance(value, str):
            return False
        if THIS not in value:
            raise InvalidValueError(f"a SQL step reads from {THIS}, the frame so far, and {value!r} does not")
        return True

    def apply(self, name: str, df: DataFrame) -> DataFrame:
        view = "raydp_ml_" + uuid.uuid4().hex
        df.createOrReplaceTempView(view)
        try:
            return df.sparkSession.sql(self.value.replace(THIS, view))
        finally:
            # Spark resolved the view when it parsed the statement; nothing refers to the view's name any more.
            df.sparkSession.catalog.dropTempView(view)

    def describe(self) -> tuple[str, str]:
        return "SQL", self.value

    @classmethod
    def save(cls, steps: Sequence[SavedStep], folder: Path) -> list[dict[str, Any]]:
        return [{"sql": step.given} for step in steps]

    @classmethod
    def load(cls, records: Sequence[Mapping[str, Any]], loading: LoadingSteps) -> list[LoadedStep]:
        for record in records:
            if not current_trust().covers("sql"):
                raise InvalidValueError(
                    f"step {record['name']!r} of the saved pipeline is SQL, which could call any Java method: "
                    f'{record["sql"]!r}. If you trust it: load(path, trusted=["sql"])'
                )
        return [LoadedStep(record["sql"], record["sql"]) for record in records]
