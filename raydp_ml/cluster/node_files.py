"""The jar and the class archive on the nodes of executors: those that lack them get the driver's.

The jar comes with the order to start an executor. The archive (160 MB) follows while the first executor of the node works, for the
executors and sessions after it, and only to nodes where it fits: with the same Java, and the same files of Spark at the same paths.
"""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raydp_ml.cluster import class_archive, jar_cache
from raydp_ml.cluster.jar import SparkHome, find_jar
from raydp_ml.exchange.ray_seam import is_client

__all__ = ["DriverFiles", "fetch_archive", "jar_here"]

logger = logging.getLogger(__name__)

# What lies in the object stores of both nodes at one moment.
_CHUNK_BYTES = 16 << 20


@dataclass(frozen=True)
class DriverFiles:
    """What the driver starts with.

    Attributes
    ----------
    jar_name : str
        Name of the jar's file.
    jar_changed_ns : int
        When it was changed; an archive fits a jar of that time only.
    jar : bytes
        Its content.
    archive : pathlib.Path, optional
        The class archive; None where there is none, or nodes cannot read it.
    node : str
        Ray's id of the driver's node.
    """

    jar_name: str
    jar_changed_ns: int
    jar: bytes = field(repr=False)
    archive: Path | None
    node: str

    @classmethod
    def of(cls, home: SparkHome, jar: Path, node: str) -> DriverFiles:
        """The files of this process.

        Parameters
        ----------
        home : SparkHome
            Its Spark.
        jar : pathlib.Path
            Our jar.
        node : str
            Its node; a Ray Client has none, and its archive stays where it is.
        """
        archive = class_archive.archive_path(home, jar)
        there = archive.is_file() and not is_client()
        return cls(jar.name, jar.stat().st_mtime_ns, jar.read_bytes(), archive if there else None, node)


def jar_here(files: DriverFiles, work: Path) -> Path:
    """The jar on this node, put into its cache if it has none.

    Parameters
    ----------
    files : DriverFiles
        What the driver has.
    work : pathlib.Path
        Where the jar goes when the cache cannot be written to.

    Returns
    -------
    pathlib.Path
        A file of this node.
    """
    found = find_jar(files.jar_name)
    if found is not None:
        return found
    jar = jar_cache.folder() / files.jar_name
    try:
        jar.parent.mkdir(parents=True, exist_ok=True)
        jar_cache.use(jar)  # First, because its time is that of the driver's jar, which may look old.
        _write_jar(files, jar)
    except OSError as error:
        logger.debug("the jar cannot be kept on this node: %s", error)
        jar = work / files.jar_name
        jar.write_bytes(files.jar)
        return jar
    jar_cache.prune()
    return jar


def _write_jar(files: DriverFiles, jar: Path) -> None:
    handle, temporary = tempfile.mkstemp(prefix=files.jar_name, dir=jar.parent)
    with os.fdopen(handle, "wb") as output:
        output.write(files.jar)
    os.chmod(temporary, 0o644)
    os.utime(temporary, ns=(files.jar_changed_ns, files.jar_changed_ns))
    os.replace(temporary, jar)


def fetch_archive(files: DriverFiles, home: SparkHome, jar: Path) -> bool:
    """Get the driver's class archive, if this node lacks one and the driver's fits.

    Parameters
    ----------
    files : DriverFiles
        What the driver has.
    home : SparkHome
        The Spark of this node.
    jar : pathlib.Path
        The jar of this node.

    Returns
    -------
    bool
        Whether the node got it now.
    """
    archive = class_archive.archive_path(home, jar)
    # Its name says what it fits.
    if files.archive is None or files.archive.name != archive.name or archive.is_file():
        return False
    partial = archive.with_suffix(".part")
    try:
        with open(partial, "ab") as output:
            # The other executors of this node leave it to the one that has the lock, which ends with the process.
            fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if archive.is_file():
                return False  # The one before this has just got it; this file may be the very same.
            try:
                output.truncate(0)
                _copy(files, output)
                output.flush()
                os.replace(partial, archive)
            finally:
                partial.unlink(missing_ok=True)
    except (OSError, ray.exceptions.RayError) as error:
        logger.debug("the class archive of the driver's node does not come: %s", error)
        return False
    jar_cache.prune()
    return True


def _copy(files: DriverFiles, output: BinaryIO) -> None:
    on_its_node = NodeAffinitySchedulingStrategy(files.node, soft=False)
    read = ray.remote(_read).options(num_cpus=0, scheduling_strategy=on_its_node)
    offset = 0
    while chunk := ray.get(read.remote(str(files.archive), offset)):
        offset += output.write(chunk)


def _read(path: str, offset: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(_CHUNK_BYTES)
