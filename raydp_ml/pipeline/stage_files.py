"""Spark ML stages as files and bytes: written by Spark ML itself, gathered from whichever nodes wrote them.

Spark ML's writers run Spark jobs, so the files of a stage appear on the nodes of the executors that ran them, and in a
cluster without a shared disk the driver's node has only a part. :func:`gather_directory` brings them together and
:func:`spread_directory` is the way back.

A stage that learnt nothing (an Estimator before its fit, a VectorAssembler) needs no files: its class and the values that
were set describe it, and no Spark job runs for it.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
import uuid
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from raydp_ml.cluster import executor_files
from raydp_ml.errors import InvalidTypeError, InvalidValueError, RaydpMLError
from raydp_ml.persistence.names import qualified_name
from raydp_ml.persistence.trust import Trust

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = [
    "describe_stage",
    "gather_directory",
    "read_stages",
    "rebuild_stage",
    "spread_directory",
    "stage_class",
    "write_stages",
]

# Stages whose parameters are a program of their own: SQL can call Java methods by reflect().
_PROGRAMS = ("SQLTransformer",)
# Models whose data stay a DataFrame over the files.
_LAZY = ("ALSModel", "FPGrowthModel", "DistributedLDAModel")
# Where a task's output waits for the commit; on other nodes than the driver's, no commit moves it.
_UNCOMMITTED = re.compile(r"(?:^|(?<=/))_temporary/\d+/(?:task|attempt)_[^/]+/")


def gather_directory(spark: SparkSession, path: str) -> dict[str, bytes]:
    """Files that a Spark job wrote below a local path, whichever nodes its executors are on.

    Parameters
    ----------
    spark : SparkSession
        The session that wrote.
    path : str
        An absolute local path that no other job writes to.

    Returns
    -------
    dict of str to bytes
        Contents by path relative to ``path``, without the marks of unfinished commits.

    Raises
    ------
    RaydpMLError
        When parts are missing: the session was not started by raydp_ml and its executors wrote to other nodes.
    """
    from raydp_ml.session import host_actors

    found = {str(file.relative_to(path)): file.read_bytes() for file in Path(path).rglob("*") if file.is_file()}
    found.update(executor_files.read_files(host_actors(), path))
    files: dict[str, bytes] = {}
    for name, content in found.items():
        final = _UNCOMMITTED.sub("", name)
        if "_temporary" not in PurePosixPath(final).parts:
            files[final] = content
    written = {str(PurePosixPath(name).parent) for name in files if PurePosixPath(name).name == "_SUCCESS"}
    with_parts = {str(PurePosixPath(name).parent) for name in files if PurePosixPath(name).name.startswith("part-")}
    missing = sorted(written - with_parts)
    if missing:
        raise RaydpMLError(
            f"Spark wrote {', '.join(missing)} on nodes that this process cannot read; save from a session of init_spark, "
            f"or from one whose executors share this machine's disk (master {spark.sparkContext.master})"
        )
    return files


def spread_directory(path: str, files: Mapping[str, bytes]) -> None:
    """Write files below a local path of this node and of every node that has an executor.

    Parameters
    ----------
    path : str
        An absolute local path.
    files : mapping of str to bytes
        Contents by relative path.
    """
    from raydp_ml.session import host_actors

    _write_files(Path(path), files)
    executor_files.write_files(host_actors(), path, files)


def describe_stage(stage: Any) -> dict[str, Any] | None:
    """Class, uid and set values of a stage that learnt nothing; None when it has more than that.

    Parameters
    ----------
    stage : pyspark.ml.param.Params
        A stage.

    Returns
    -------
    dict or None
        What :func:`rebuild_stage` takes.
    """
    from pyspark.ml import Model

    if isinstance(stage, Model) or not type(stage).__module__.startswith("pyspark.ml."):
        return None
    values = {param.name: stage.getOrDefault(param) for param in stage.params if stage.isSet(param)}
    if not all(_is_plain(value) for value in values.values()):
        return None
    return {"class": qualified_name(type(stage)), "uid": stage.uid, "params": values}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or type(value) in (bool, int, float, str)


def rebuild_stage(description: Mapping[str, Any], trust: Trust) -> Any:
    """The stage that :func:`describe_stage` described.

    Parameters
    ----------
    description : mapping
        Class, uid and values.
    trust : Trust
        Which classes may be used.

    Returns
    -------
    pyspark.ml.param.Params
        A new stage with the same uid.
    """
    stage = stage_class(description["class"], trust)()
    stage._resetUid(description["uid"])
    stage._set(**description["params"])
    return stage


def write_stages(spark: SparkSession, stages: Mapping[str, Any]) -> dict[str, dict[str, bytes]]:
    """Stages in Spark ML's own format, as files in memory.

    Parameters
    ----------
    spark : SparkSession
        The session of the stages.
    stages : mapping
        Stages by a name that is good for a folder.

    Returns
    -------
    dict
        For each stage its files by relative path.
    """
    if not stages:
        return {}
    with _scratch() as folder:
        for name, stage in stages.items():
            if not hasattr(stage, "write"):
                raise InvalidTypeError(
                    f"the stage {name!r}, a {qualified_name(type(stage))}, cannot be saved: it has no write(); inherit "
                    "pyspark.ml.util.DefaultParamsWritable and DefaultParamsReadable"
                )
            stage.write().save(f"file://{folder}/{name}")
        everything = gather_directory(spark, str(folder))
    split: dict[str, dict[str, bytes]] = {name: {} for name in stages}
    for path, content in everything.items():
        name, _, inner = path.partition("/")
        if not inner.endswith(".crc"):  # checksums of Hadoop's local file system, which are optional
            split[name][inner] = content
    return split


def read_stages(stages: Mapping[str, tuple[str, Mapping[str, bytes]]], trust: Trust) -> dict[str, Any]:
    """Stages from the files of :func:`write_stages`.

    Parameters
    ----------
    stages : mapping
        For each name the qualified name of the Python class, and the files by relative path.
    trust : Trust
        Which classes may be used, those of stages within stages included.

    Returns
    -------
    dict
        The stages by name. The files of models that read them only when they are used stay until these are gone.
    """
    classes = {}
    for name, (class_name, files) in stages.items():
        classes[name] = stage_class(class_name, trust)
        _check_stage_files(name, files, trust)
    if not stages:
        return {}
    lazy = [name for name, (_, files) in stages.items() if _reads_later(files)]
    with _scratch(keep=bool(lazy)) as folder:
        together = {f"{name}/{path}": data for name, (_, files) in stages.items() for path, data in files.items()}
        spread_directory(str(folder), together)
        loaded = {name: kind.load(f"file://{folder}/{name}") for name, kind in classes.items()}
    for name in lazy:
        weakref.finalize(loaded[name], shutil.rmtree, folder / name, True)
    return loaded


def stage_class(name: str, trust: Trust) -> Any:
    """The Spark ML class of this qualified name.

    Parameters
    ----------
    name : str
        Module and name, as a file has it.
    trust : Trust
        Which classes may be used.

    Raises
    ------
    InvalidValueError
        When the class is not trusted, is no stage, or runs SQL of the file.
    """
    from pyspark.ml import Estimator, Transformer

    kind = trust.resolve(name)
    if not issubclass(kind, Estimator | Transformer):
        raise InvalidValueError(f"the saved directory names {name!r} as a Spark ML stage, which it is not")
    _check_program(name, trust)
    return kind


def _check_program(name: str, trust: Trust) -> None:
    if name.rpartition(".")[2] in _PROGRAMS and not (trust.covers("sql") or trust.covers(name)):
        raise InvalidValueError(
            f"the saved directory has a stage {name}, whose SQL could call any Java method. If you trust it: "
            'load(path, trusted=["sql"])'
        )


def _check_stage_files(stage: str, files: Mapping[str, bytes], trust: Trust) -> None:
    """Refuse files whose metadata, at any depth, names a class that is not trusted: Spark would instantiate it."""
    seen = False
    for path, content in files.items():
        parts = PurePosixPath(path).parts
        if ".." in parts or PurePosixPath(path).is_absolute():
            raise InvalidValueError(f"stage {stage!r} of the saved directory has a file {path!r} outside of it")
        if len(parts) < 2 or parts[-2] != "metadata" or not parts[-1].startswith("part-"):
            continue
        try:
            names = [json.loads(line)["class"] for line in content.decode().splitlines() if line.strip()]
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidValueError(f"stage {stage!r} of the saved directory is damaged: {path}: {error}") from error
        for name in names:
            seen = True
            trust.check(name, "Spark ML class")
            _check_program(name, trust)
    if not seen:
        raise InvalidValueError(f"stage {stage!r} of the saved directory is damaged: it has no metadata")


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


@contextmanager
def _scratch(keep: bool = False) -> Iterator[Path]:
    """A path for Spark to write to and read from, the same on every node; empty afterwards, unless it is kept."""
    folder = Path(tempfile.gettempdir()) / f"raydp_ml_{uuid.uuid4().hex}"
    done = False
    try:
        yield folder
        done = True
    finally:
        if not (done and keep):
            _remove_everywhere(str(folder))


def _remove_everywhere(folder: str) -> None:
    """Remove a local folder on this node and on the other nodes of the Ray cluster, if there are any."""
    shutil.rmtree(folder, ignore_errors=True)
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    remove = ray.remote(num_cpus=0)(shutil.rmtree)
    for node in ray.nodes():
        if node["Alive"] and node["NodeID"] != here:
            place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=True)
            remove.options(scheduling_strategy=place).remote(folder, ignore_errors=True)


def _reads_later(files: Mapping[str, bytes]) -> bool:
    """Whether a stage, or one inside it, keeps reading its files after it was loaded."""
    return any(
        f".{name}".encode() in content
        for path, content in files.items()
        if PurePosixPath(path).parent.name == "metadata"
        for name in _LAZY
    )
