"""A function, or another callable object, from Spark DataFrame to Spark DataFrame."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.persistence.attachments import Attachments
from raydp_ml.persistence.codecs import CannotEncodeError
from raydp_ml.persistence.directory import current_trust
from raydp_ml.persistence.names import qualified_name
from raydp_ml.persistence.values import encode
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
        return [_record(step.given) for step in steps]

    @classmethod
    def load(cls, records: Sequence[Mapping[str, Any]], loading: LoadingSteps) -> list[LoadedStep]:
        loaded = []
        for record in records:
            function = _find(record["name"], record)
            loaded.append(LoadedStep(function, function))
        return loaded

    @classmethod
    def pack(cls, values: Sequence[Any]) -> list[Any]:
        # cloudpickle writes functions of the main program, and lambdas, by value.
        return [cloudpickle.dumps(value) for value in values]

    @classmethod
    def unpack(cls, packed: Sequence[Any]) -> list[Any]:
        return [pickle.loads(content) for content in packed]


def _record(function: Any) -> dict[str, Any]:
    try:
        spec = encode(function, Attachments(Path()))
    except CannotEncodeError as error:
        return {"function": None, "was": str(error)}
    if not isinstance(spec, dict) or "$function" not in spec:
        return {"function": None, "was": f"an instance of {qualified_name(type(function))}"}
    return {"function": spec["$function"]}


def _find(name: str, record: Mapping[str, Any]) -> Any:
    way = f"give it back with load(path, params={{{name!r}: function}})"
    if record["function"] is None:
        raise InvalidValueError(
            f"step {name!r} of the saved pipeline could not be written: it was {record['was']}; {way}"
        )
    trust = current_trust()
    if not trust.covers(record["function"]):
        raise InvalidValueError(
            f"step {name!r} of the saved pipeline is the function {record['function']!r}, which loading would import. If "
            f"you trust it: load(path, trusted=[{record['function']!r}]); or {way}"
        )
    return trust.resolve(record["function"], "function")
