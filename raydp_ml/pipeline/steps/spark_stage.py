"""A Spark ML stage: a ``pyspark.ml`` Transformer, or an Estimator whose fitted form is a Model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.persistence.directory import current_trust
from raydp_ml.persistence.names import qualified_name
from raydp_ml.persistence.trust import TrustEverything
from raydp_ml.pipeline.stage_files import describe_stage, read_stages, rebuild_stage, write_stages
from raydp_ml.pipeline.steps.predictor import PredictorFinal, is_predictor
from raydp_ml.pipeline.steps.step import FeatureStep, Final, LoadedStep, LoadingSteps, SavedStep, check_param_names

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["SparkStageStep", "read_below", "record_in_folder", "write_below"]


class SparkStageStep(FeatureStep):
    """A stage of Spark ML, of pyspark or of the user.

    In a saved directory, a stage that learnt nothing is its class and the values that were set, and any other is in Spark ML's
    own format: fitted stages below ``stages``, others below ``unfitted``.
    """

    kind = "spark"
    needs_session = True

    @classmethod
    def recognise(cls, value: Any) -> bool:
        # The names come first: asking for the classes would import pyspark for pipelines that have no such stage.
        if not any(base.__module__.startswith("pyspark.ml") for base in type(value).__mro__):
            return False
        from pyspark.ml import Estimator, Transformer

        return isinstance(value, Estimator | Transformer)

    def copy(self) -> Any:
        return self.value.copy()

    def get_params(self) -> dict[str, Any]:
        stage = self.value
        return {param.name: stage.getOrDefault(param) if stage.isDefined(param) else None for param in stage.params}

    def set_params(self, name: str, params: Mapping[str, Any]) -> None:
        """Set Params of the stage; None takes a value away."""
        stage = self.value
        check_param_names(name, stage, [param.name for param in stage.params], params)
        for key, value in params.items():
            if value is None:
                stage.clear(stage.getParam(key))
                continue
            try:
                stage._set(**{key: value})
            except TypeError as error:
                raise InvalidTypeError(f"{name}__{key}={value!r}: {error}") from error

    @property
    def learns(self) -> bool:
        from pyspark.ml import Estimator

        return isinstance(self.value, Estimator)

    @property
    def row_wise(self) -> bool:
        kind = type(self.value)
        return not self.learns and kind.__module__ == "pyspark.ml.feature" and kind.__name__ != "SQLTransformer"

    def fit(self, df: DataFrame) -> Any:
        return self.value.fit(df) if self.learns else self.copy()

    def apply(self, name: str, df: DataFrame) -> DataFrame:
        return self.value.transform(df)

    def vector_column(self, before: DataFrame, after: DataFrame) -> str | None:
        """The output column if it is a vector, also one that was there before and is written anew; or else the last new one."""
        from pyspark.ml.linalg import VectorUDT

        if self.value.hasParam("outputCol") and self.value.isDefined("outputCol"):
            made = self.value.getOrDefault("outputCol")
            if made in after.columns and isinstance(after.schema[made].dataType, VectorUDT):
                return made
        return super().vector_column(before, after)

    def as_final(self) -> Final | None:
        params = self.get_params()
        return PredictorFinal(params, lambda: self.value) if is_predictor(params) else None

    def describe(self) -> tuple[str, str]:
        stage, title = self.value, type(self.value).__name__
        given = {param.name: stage.getOrDefault(param) for param in stage.params if stage.isSet(param)}
        inside = ",\n    ".join(f"{key}={value!r}" for key, value in given.items())
        return title, f"{title}(\n    {inside}\n)" if given else f"{title}()"

    # ---- saved directories -----------------------------------------------------------------------------------------

    @classmethod
    def save(cls, steps: Sequence[SavedStep], folder: Path) -> list[dict[str, Any]]:
        records = []
        with_files: dict[str, Any] = {}
        for step in steps:
            record: dict[str, Any] = {"given": describe_stage(step.given)}
            if record["given"] is None:
                record["given"] = record_in_folder(step.given, f"unfitted/{step.folder}", with_files)
            if step.fitted is not None:
                record["fitted"] = record_in_folder(step.fitted, f"stages/{step.folder}", with_files)
            records.append(record)
        write_below(folder, with_files)
        return records

    @classmethod
    def load(cls, records: Sequence[Mapping[str, Any]], loading: LoadingSteps) -> list[LoadedStep]:
        loading.session()
        specs = {
            (which, position): record[which]
            for position, record in enumerate(records)
            for which in ("given", "fitted")
            if which in record
        }
        stages = read_below(loading.folder, list(specs.values()))
        found = dict(zip(specs, stages, strict=True))
        return [
            LoadedStep(found["given", position], found.get(("fitted", position))) for position in range(len(records))
        ]

    # ---- pickles ---------------------------------------------------------------------------------------------------

    @classmethod
    def pack(cls, values: Sequence[Any]) -> list[Any]:
        descriptions = [describe_stage(stage) for stage in values]
        written = _write(
            {
                f"{position:02d}_{type(stage).__name__}": stage
                for position, (stage, description) in enumerate(zip(values, descriptions, strict=True))
                if description is None
            }
        )
        files = iter(written.values())
        return [
            _PackedStage(description, qualified_name(type(stage)), next(files) if description is None else {})
            for stage, description in zip(values, descriptions, strict=True)
        ]

    @classmethod
    def unpack(cls, packed: Sequence[Any]) -> list[Any]:
        trust = TrustEverything()
        with_files = {
            str(position): (item.class_name, item.files)
            for position, item in enumerate(packed)
            if item.description is None
        }
        read = read_stages(with_files, trust)
        return [
            read[str(position)] if item.description is None else rebuild_stage(item.description, trust)
            for position, item in enumerate(packed)
        ]


@dataclass(frozen=True)
class _PackedStage:
    """A Spark ML stage in a pickle: what describes it, or its class and files."""

    description: dict[str, Any] | None
    class_name: str
    files: dict[str, bytes]


def record_in_folder(stage: Any, folder: str, with_files: dict[str, Any]) -> dict[str, Any]:
    """The record of a stage whose files go to a folder of a saved directory.

    Parameters
    ----------
    stage : pyspark.ml.param.Params
        The stage.
    folder : str
        Path below the saved directory, which no other stage has.
    with_files : dict
        Gets the stage by its folder, for :func:`write_below`.

    Returns
    -------
    dict
        The record, for :func:`read_below`.
    """
    with_files[folder] = stage
    return {"class": qualified_name(type(stage)), "folder": folder}


def write_below(directory: Path, stages: Mapping[str, Any]) -> None:
    """Write stages in Spark ML's own format.

    Parameters
    ----------
    directory : Path
        A saved directory.
    stages : mapping
        Stages by the path of their folder below the directory.
    """
    # Spark ML gets one folder for each stage, side by side, so their names must have no slash.
    written = _write({folder.replace("/", "-"): stage for folder, stage in stages.items()})
    for folder, files in zip(stages, written.values(), strict=True):
        for name, content in files.items():
            target = directory / folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


def read_below(directory: Path, records: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The stages of records in a saved directory, within a load in progress.

    Parameters
    ----------
    directory : Path
        The saved directory.
    records : sequence of mapping
        What :func:`record_in_folder` or :func:`~raydp_ml.pipeline.stage_files.describe_stage` returned.

    Returns
    -------
    list of pyspark.ml.param.Params
        A stage for each record.
    """
    trust = current_trust()
    stages: dict[int, Any] = {}
    files: dict[str, tuple[str, dict[str, bytes]]] = {}
    read_as: dict[int, str] = {}
    for position, record in enumerate(records):
        if "folder" in record:
            read_as[position] = f"{position}-{record['folder'].replace('/', '-')}"
            files[read_as[position]] = (record["class"], _read_files(directory, record["folder"]))
        else:
            stages[position] = rebuild_stage(record, trust)
    read = read_stages(files, trust)
    return [read[read_as[position]] if position in read_as else stages[position] for position in range(len(records))]


def _read_files(place: Path, folder: str) -> dict[str, bytes]:
    top = (place / folder).resolve()
    if not top.is_relative_to(place.resolve()) or not top.is_dir():
        raise InvalidValueError(f"the saved pipeline is damaged: it has no folder {folder!r}")
    return {str(file.relative_to(top)): file.read_bytes() for file in top.rglob("*") if file.is_file()}


def _write(stages: Mapping[str, Any]) -> dict[str, dict[str, bytes]]:
    """Files of the stages, in the order of the stages."""
    if not stages:
        return {}
    from pyspark.sql import SparkSession

    # A session runs if these stages exist, and getOrCreate finds it from every thread.
    return write_stages(SparkSession.builder.getOrCreate(), stages)
