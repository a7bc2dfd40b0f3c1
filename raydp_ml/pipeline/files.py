"""The steps of a pipeline on disk and in pickles."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
from sklearn.base import clone

from raydp_ml.errors import InvalidValueError
from raydp_ml.persistence.directory import current_trust, overrides, read_folder, write_folder
from raydp_ml.persistence.values import Attachments, CannotEncodeError, Trust, TrustEverything, encode, qualified_name
from raydp_ml.pipeline.stage_files import describe_stage, read_stages, rebuild_stage, write_stages
from raydp_ml.pipeline.stages import PASSTHROUGH, kind_of

__all__ = ["load_steps", "needs_spark", "pack_steps", "save_steps", "unpack_steps"]

Step = tuple[str, Any]
_MODEL = "model"


@dataclass
class _PackedStage:
    """A Spark ML stage in a pickle: what describes it, or its class and files."""

    description: dict[str, Any] | None
    class_name: str
    files: dict[str, bytes]


@dataclass
class _PackedFunction:
    """A function step in a pickle, by value when its module is the main program."""

    content: bytes


def pack_steps(lists: Mapping[str, Sequence[Step]]) -> dict[str, list[Step]]:
    """Lists of steps with everything in them made fit for pickle.

    Parameters
    ----------
    lists : mapping
        Lists of (name, step).

    Returns
    -------
    dict
        The lists for :func:`unpack_steps`.
    """
    learnt: dict[str, Any] = {}
    packed: dict[str, list[Step]] = {}
    for key, steps in lists.items():
        packed[key] = []
        for position, (name, step) in enumerate(steps):
            kind = kind_of(step)
            item = step
            if kind == "function":
                item = _PackedFunction(cloudpickle.dumps(step))
            elif kind == "spark":
                item = _PackedStage(describe_stage(step), qualified_name(type(step)), {})
                if item.description is None:
                    learnt[f"{key}-{position}"] = step
            packed[key].append((name, item))
    if learnt:
        for place, files in write_stages(_spark(), learnt).items():
            key, _, number = place.rpartition("-")
            packed[key][int(number)][1].files = files
    return packed


def needs_spark(lists: Mapping[str, Sequence[Step]]) -> bool:
    """Whether packed steps hold Spark ML stages."""
    return any(isinstance(step, _PackedStage) for steps in lists.values() for _, step in steps)


def unpack_steps(lists: Mapping[str, Sequence[Step]]) -> dict[str, list[Step]]:
    """The steps that :func:`pack_steps` packed; unpickling trusts what it reads, and so does this."""
    learnt: dict[str, Any] = {}
    unpacked: dict[str, list[Step]] = {}
    trust = TrustEverything()
    for key, steps in lists.items():
        unpacked[key] = []
        for position, (name, step) in enumerate(steps):
            item = step
            if isinstance(step, _PackedFunction):
                item = pickle.loads(step.content)
            elif isinstance(step, _PackedStage) and step.description is not None:
                item = rebuild_stage(step.description, trust)
            elif isinstance(step, _PackedStage):
                learnt[f"{key}-{position}"] = (step.class_name, step.files)
            unpacked[key].append((name, item))
    for place, stage in read_stages(learnt, trust).items():
        key, _, number = place.rpartition("-")
        name = unpacked[key][int(number)][0]
        unpacked[key][int(number)] = (name, stage)
    return unpacked


def save_steps(path: str, steps: Sequence[Step], fitted: Sequence[Step] | None) -> dict[str, Any]:
    """Write steps below a directory: fitted Spark stages to ``stages/NN_name``, the estimator to ``model``.

    Parameters
    ----------
    path : str
        The directory.
    steps, fitted : sequence of (name, step)
        The steps as given and, when the pipeline is fitted, as fitted.

    Returns
    -------
    dict
        The rest of the state.
    """
    place = Path(path)
    records: list[dict[str, Any]] = []
    files: dict[str, Any] = {}
    for position, (name, step) in enumerate(steps):
        kind = kind_of(step)
        record: dict[str, Any] = {"name": name, "kind": kind}
        if kind == "sql":
            record["sql"] = step
        elif kind == "function":
            record.update(_describe_function(step))
        elif kind == "estimator":
            (place / _MODEL).mkdir()
            write_folder(step if fitted is None else fitted[position][1], place / _MODEL)
        elif kind == "spark":
            folder_name = f"{position:02d}_{_file_name(name)}"
            record["given"] = _stage_record(step, f"unfitted/{folder_name}", files)
            if fitted is not None:
                done = fitted[position][1]
                record["fitted"] = {"class": qualified_name(type(done)), "folder": f"stages/{folder_name}"}
                files[f"stages/{folder_name}"] = done
        records.append(record)
    if files:
        flat = {folder.replace("/", "-"): stage for folder, stage in files.items()}
        written = write_stages(_spark(), flat)
        for folder in files:
            for name, content in written[folder.replace("/", "-")].items():
                target = place / folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
    return {"steps": records, "fitted": fitted is not None}


def load_steps(path: str, state: Mapping[str, Any], session: Callable[[], Any]) -> tuple[list[Step], list[Step] | None]:
    """The steps that :func:`save_steps` wrote, within a load in progress.

    Parameters
    ----------
    path : str
        The directory.
    state : mapping
        What :func:`save_steps` returned.
    session : callable
        Gives the Spark session, when there are Spark ML stages.

    Returns
    -------
    steps, fitted : list of (name, step)
        The second is None for a pipeline that was not fitted.
    """
    place = Path(path)
    trust = current_trust()
    records = state["steps"]
    # What needs the caller's trust comes first: Spark's part takes seconds.
    plain = {
        record["name"]: _load_plain(record, trust) for record in records if record["kind"] not in ("spark", "estimator")
    }
    given, done = _load_stages(place, [record for record in records if record["kind"] == "spark"], session)
    steps: list[Step] = []
    fitted: list[Step] = []
    for record in records:
        name = record["name"]
        if record["kind"] == "spark":
            steps.append((name, given[name]))
            fitted.append((name, done.get(name)))
        elif record["kind"] == "estimator":
            estimator = read_folder(place / _MODEL, prefix=name)
            steps.append((name, clone(estimator) if state["fitted"] else estimator))
            fitted.append((name, estimator))
        else:
            steps.append((name, plain[name]))
            fitted.append((name, plain[name]))
    return steps, fitted if state["fitted"] else None


def _load_stages(
    place: Path, records: Sequence[Mapping[str, Any]], session: Callable[[], Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Spark ML stages by step name: as given, and as fitted."""
    if not records:
        return {}, {}
    session()
    trust = current_trust()
    stages: dict[str, dict[str, Any]] = {"given": {}, "fitted": {}}
    files: dict[str, tuple[str, dict[str, bytes]]] = {}
    places: dict[str, tuple[str, str]] = {}
    for position, record in enumerate(records):
        for which, loaded in stages.items():
            spec = record.get(which)
            if spec is not None and "folder" in spec:
                key = f"{which}-{position}"
                files[key] = (spec["class"], _read_files(place, spec["folder"]))
                places[key] = (which, record["name"])
            elif spec is not None:
                loaded[record["name"]] = rebuild_stage(spec, trust)
    for key, stage in read_stages(files, trust).items():
        which, name = places[key]
        stages[which][name] = stage
    return stages["given"], stages["fitted"]


def _load_plain(record: Mapping[str, Any], trust: Trust) -> Any:
    """A function, SQL or passthrough step."""
    name, kind = record["name"], record["kind"]
    if kind == "passthrough":
        return PASSTHROUGH
    if name in overrides():
        step = overrides()[name]
        kind_of(step)
        return step
    if kind == "sql":
        if not trust.covers("sql"):
            raise InvalidValueError(
                f"step {name!r} of the saved pipeline is SQL, which could call any Java method: {record['sql']!r}. If you "
                'trust it: load(path, trusted=["sql"])'
            )
        return record["sql"]
    if kind != "function":
        raise InvalidValueError(f"step {name!r} of the saved pipeline has the unknown kind {kind!r}")
    way = f"give it back with load(path, params={{{name!r}: function}})"
    if record["function"] is None:
        raise InvalidValueError(
            f"step {name!r} of the saved pipeline could not be written: it was {record['was']}; {way}"
        )
    if not trust.covers(record["function"]):
        raise InvalidValueError(
            f"step {name!r} of the saved pipeline is the function {record['function']!r}, which loading would import. If "
            f"you trust it: load(path, trusted=[{record['function']!r}]); or {way}"
        )
    return trust.resolve(record["function"], "function")


def _describe_function(step: Any) -> dict[str, Any]:
    try:
        spec = encode(step, Attachments(Path()))
    except CannotEncodeError as error:
        return {"function": None, "was": str(error)}
    if not isinstance(spec, dict) or "$function" not in spec:
        return {"function": None, "was": f"an instance of {qualified_name(type(step))}"}
    return {"function": spec["$function"]}


def _stage_record(stage: Any, folder: str, files: dict[str, Any]) -> dict[str, Any]:
    description = describe_stage(stage)
    if description is not None:
        return description
    files[folder] = stage
    return {"class": qualified_name(type(stage)), "folder": folder}


def _read_files(place: Path, folder: str) -> dict[str, bytes]:
    top = (place / folder).resolve()
    if not top.is_relative_to(place.resolve()) or not top.is_dir():
        raise InvalidValueError(f"the saved pipeline is damaged: it has no folder {folder!r}")
    return {str(file.relative_to(top)): file.read_bytes() for file in top.rglob("*") if file.is_file()}


def _file_name(name: str) -> str:
    """A step's name as part of a path."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "_" for letter in name)


def _spark() -> Any:
    """The session of the stages that are being written, which cannot exist without one."""
    from pyspark.sql import SparkSession

    return SparkSession.builder.getOrCreate()
