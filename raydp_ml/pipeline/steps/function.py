"""A function, or another callable object, from Spark DataFrame to Spark DataFrame."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle

from raydp_ml.errors import InvalidTypeError
from raydp_ml.persistence.functions import find_function, record_of_function
from raydp_ml.pipeline.steps.step import FeatureStep, LoadedStep, LoadingSteps, SavedStep

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["FunctionStep"]


class FunctionStep(FeatureStep):
    """A function from DataFrame to DataFrame.

    A saved directory holds its qualified name only, and a load imports it when the caller trusts that name.
    """

    kind = "function"
    replaceable = True

    @classmethod
    def recognise(cls, value: Any) -> bool:
        return callable(value)

    def apply(self, name: str, df: DataFrame) -> DataFrame:
        result = self.value(df)
        if not hasattr(result, "sparkSession") or not hasattr(result, "schema"):
            raise InvalidTypeError(
                f"the function of step {name!r} must return a Spark DataFrame, it returned {type(result).__name__}"
            )
        return result

    def describe(self) -> tuple[str, str]:
        title = getattr(self.value, "__name__", type(self.value).__name__)
        return f"{title}()", str(getattr(self.value, "__doc__", None) or self.value)

    @classmethod
    def save(cls, steps: Sequence[SavedStep], folder: Path) -> list[dict[str, Any]]:
        return [record_of_function(step.given) for step in steps]

    @classmethod
    def load(cls, records: Sequence[Mapping[str, Any]], loading: LoadingSteps) -> list[LoadedStep]:
        loaded = []
        for record in records:
            function = find_function(record["name"], record)
            loaded.append(LoadedStep(function, function))
        return loaded

    @classmethod
    def pack(cls, values: Sequence[Any]) -> list[Any]:
        # cloudpickle writes functions of the main program, and lambdas, by value.
        return [cloudpickle.dumps(value) for value in values]

    @classmethod
    def unpack(cls, packed: Sequence[Any]) -> list[Any]:
        return [pickle.loads(content) for content in packed]
