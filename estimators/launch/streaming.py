"""Whether workers stream their rows, and a folder for what they write."""

from __future__ import annotations

import logging
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from raydp_ml.cluster.jvm import Janitor
from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.launch.assignment import Placement
from raydp_ml.frames.arrays import Arrays, Blocks
from raydp_ml.frames.columns import Selection
from raydp_ml.frames.memory import available_memory

__all__ = ["is_streamed", "memory_of_worker", "scratch_folder"]

_log = logging.getLogger("raydp_ml.estimators")

# Rows in memory are there twice for a moment: as they come, and as what trains.
_COPIES = 2


def is_streamed(asked: bool | str, refused: str | None, data: Arrays | Blocks, placement: Placement) -> bool:
    """Whether workers stream their rows.

    Parameters
    ----------
    asked : bool or "auto"
        The parameter ``streaming``.
    refused : str or None
        Why the backend cannot.
    data : Arrays or Blocks
        The rows. Arrays are in memory already, and are streamed only where that is asked for.
    placement : Placement
        Where the workers are to run.

    Raises
    ------
    InvalidValueError
        When the backend cannot stream, and it is asked for.

    Examples
    --------
    >>> is_streamed("auto", None, Arrays(np.zeros((2, 1), np.float32)), Placement())
    False
    """
    if asked != "auto":
        if asked and refused is not None:
            raise InvalidValueError(f"the rows cannot be streamed (streaming=True, external_memory=True): {refused}")
        return bool(asked)
    if isinstance(data, Arrays):
        return False
    size, workers = _bytes_of(data), max(placement.workers, 1)
    if size is None:
        return False
    needed, there = _COPIES * size // workers, memory_of_worker(placement)
    if needed <= there:
        return False
    counted = "the" if data.rows is None else f"{data.rows:,}"
    sizes = (
        f"{counted} rows would take about {needed:,} bytes in the memory of each of {workers} worker(s), which may have"
    )
    if refused is not None:
        _log.warning("%s %s, and cannot be streamed: %s", sizes, f"{there:,}", refused)
        return False
    _log.info("streaming: %s %s", sizes, f"{there:,}")
    return True


def _bytes_of(data: Blocks) -> int | None:
    """How many bytes the selected columns are in memory; None where nobody has counted the rows."""
    selection: Selection = data.selection
    if selection.sparse or data.rows is None:
        return data.size_bytes
    features = sum(feature.width * np.dtype(feature.dtype).itemsize for feature in selection.features)
    return data.rows * (features + 8 * len(selection.label) + 4 * len(selection.roles))


def memory_of_worker(placement: Placement) -> int:
    """How many bytes a worker may have.

    Parameters
    ----------
    placement : Placement
        Where it is to run.

    Returns
    -------
    int
        ``resources_per_worker["memory"]``, where it is given; for this process, what is available here; else the memory that
        Ray counts on the smallest node, divided by the workers that a node has.
    """
    given = (placement.resources_per_worker or {}).get("memory")
    if given is not None:
        return int(given)
    if placement.workers == 0:
        return available_memory()
    import ray

    nodes = [node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"] and "CPU" in node["Resources"]]
    return int(min(nodes) / -(-placement.workers // len(nodes))) if nodes else available_memory()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for files with names, which goes with the context, or with this process, however it ends."""
    janitor = Janitor()
    try:
        yield janitor.own(tempfile.gettempdir(), f"raydp_ml_{uuid.uuid4().hex[:12]}", "cache")
    finally:
        janitor.dismiss()
