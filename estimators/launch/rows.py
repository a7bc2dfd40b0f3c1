"""The rows of a fit on their way to its workers: looked at where they lie, divided, and made a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raydp_ml.errors import InvalidValueError, RaydpMLError
from raydp_ml.estimators.launch.assignment import Assignment
from raydp_ml.estimators.protocol import Job, Rows
from raydp_ml.estimators.shards import Shard, split, worker_of_rows
from raydp_ml.estimators.survey import Survey, merge, survey
from raydp_ml.frames.arrays import Arrays, Blocks, fetch
from raydp_ml.frames.layouts import zeros

__all__ = [
    "Side",
    "encode_labels",
    "into_store",
    "job_of",
    "look_here",
    "look_in_tasks",
    "rehearsal_of",
]

# Blocks are looked at by at most this many tasks at once; so few bytes by none, because a task may have to start a process.
_SURVEY_TASKS = 8
_SURVEYED_HERE_BYTES = 16 << 20


@dataclass
class Side:
    """The training rows or the validation rows: their blocks, and what is known of them."""

    blocks: list[Any]
    sizes: list[int]
    known: Survey
    selection: Any = None
    keep_alive: Any = None

    def count(self, chosen: np.ndarray | None) -> int:
        """How many usable rows there are, or how many of them are chosen."""
        wanted = self._wanted(chosen)
        return self.known.rows if wanted is None else int(wanted.sum())

    def shards(self, workers: int, chosen: np.ndarray | None) -> list[Shard]:
        """Divide the usable rows, or those of them that are chosen; the rows of a query stay together."""
        wanted, queries = self._wanted(chosen), self.known.query_of_row
        if queries is None or workers == 1:
            return split(self.blocks, self.sizes, wanted, workers, self.selection)
        worker = worker_of_rows(queries, wanted, workers)
        return [split(self.blocks, self.sizes, worker == rank, 1, self.selection)[0] for rank in range(workers)]

    def parts(self, chosen: np.ndarray | None) -> tuple[int, str]:
        """Among how many workers the rows can be divided at most, and what is counted: rows, or the queries of ranking."""
        wanted, queries = self._wanted(chosen), self.known.query_of_row
        if queries is None:
            return self.count(chosen), "rows"
        return len(np.unique(queries if wanted is None else queries[wanted])), "queries"

    def _wanted(self, chosen: np.ndarray | None) -> np.ndarray | None:
        usable = self.known.usable
        if usable is None or chosen is None:
            return chosen if usable is None else usable
        return usable & chosen


def look_here(data: Arrays | Blocks, classify: bool, drop_nulls: bool) -> Side:
    """Survey all rows in this process."""
    if isinstance(data, Arrays):
        return Side([data], [len(data)], survey(data, classify, drop_nulls))
    parts = [fetch(ref, data.selection) for ref in data.refs]
    known = [survey(part, classify, drop_nulls) for part in parts]
    return Side(list(parts), [part.rows for part in known], merge(known), keep_alive=data.keep_alive)


def look_in_tasks(data: Arrays | Blocks, classify: bool, drop_nulls: bool) -> Side:
    """Survey all rows, with small tasks beside the blocks where these are large."""
    if isinstance(data, Arrays):
        return look_here(data, classify, drop_nulls)
    if data.size_bytes is not None and data.size_bytes <= _SURVEYED_HERE_BYTES:
        return _side(data, _survey_blocks(data.refs, data.selection, classify, drop_nulls))
    import ray

    # Spark may hold all CPUs: these tasks ask for none, and are few, so that they do not start a process per block.
    task = ray.remote(num_cpus=0)(_survey_blocks)
    count = min(len(data.refs), _SURVEY_TASKS)
    groups = [data.refs[len(data.refs) * n // count : len(data.refs) * (n + 1) // count] for n in range(count)]
    try:
        answers = ray.get([task.remote(group, data.selection, classify, drop_nulls) for group in groups])
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, RaydpMLError):
            raise error.cause from None
        raise
    return _side(data, [part for answer in answers for part in answer])


def _side(data: Blocks, known: list[Survey]) -> Side:
    return Side(data.refs, [part.rows for part in known], merge(known), data.selection, data.keep_alive)


def _survey_blocks(refs: list[Any], selection: Any, classify: bool, drop_nulls: bool) -> list[Survey]:
    return [survey(fetch(ref, selection), classify, drop_nulls) for ref in refs]


def _rows(assignment: Assignment, arrays: Arrays, what: str, class_weight: np.ndarray | None = None) -> Rows:
    label, weight = arrays.label, arrays.weight
    if label is None:
        raise InvalidValueError(f"{what} has no label")
    if assignment.classes is not None:
        label = encode_labels(label, assignment.classes, what)
        if class_weight is not None:
            by_class = class_weight[label].astype(np.float32)
            weight = by_class if weight is None else weight * by_class
    else:
        label = np.asarray(label, np.float64)
    return Rows(arrays.X, label, weight, arrays.qid, arrays.base_margin)


def encode_labels(label: np.ndarray, classes: np.ndarray, what: str) -> np.ndarray:
    """Class numbers of labels.

    Examples
    --------
    >>> encode_labels(np.array(["b", "a"]), np.array(["a", "b"]), "y").tolist()
    [1, 0]
    """
    places = np.clip(np.searchsorted(classes, label), 0, len(classes) - 1)
    wrong = classes[places] != label
    if np.any(wrong):
        unseen = sorted({str(item) for item in np.asarray(label)[wrong][:1000]})[:5]
        raise InvalidValueError(f"{what} has labels that are not among the classes {classes.tolist()[:20]}: {unseen}")
    return places.astype(np.int64)


def job_of(
    assignment: Assignment,
    rank: int,
    shards: Sequence[Shard],
    validation: Sequence[Shard],
    threads: int | None,
    use_gpu: bool,
) -> Job:
    """One worker's job: its rows loaded, labels as class numbers, class weights multiplied into the weights that train."""
    return Job(
        task=assignment.task,
        features=assignment.features,
        train=_rows(assignment, shards[rank].load(), "the training data", assignment.class_weight),
        validation=_rows(assignment, validation[rank].load(), "validation") if validation else None,
        classes=assignment.classes,
        rank=rank,
        world_size=len(shards),
        rows_per_rank=tuple(shard.rows for shard in shards),
        validation_rows_per_rank=tuple(shard.rows for shard in validation),
        seed=assignment.seed,
        threads=threads,
        use_gpu=use_gpu,
        previous=assignment.previous,
    )


def rehearsal_of(assignment: Assignment) -> Job:
    """A job of two rows of zeros."""
    y = np.zeros(
        2 if assignment.outputs == 1 else (2, assignment.outputs),
        np.int64 if assignment.classes is not None else np.float64,
    )
    rows = Rows(zeros(assignment.features, 2), y)
    return Job(
        assignment.task,
        assignment.features,
        rows,
        classes=assignment.classes,
        rows_per_rank=(2,),
        previous=assignment.previous,
    )


def into_store(shards: list[Shard]) -> list[Shard]:
    """Put arrays that lie in this process into Ray's object store, each worker's rows on their own."""
    import ray

    moved = []
    for shard in shards:
        if any(isinstance(piece.block, Arrays) for piece in shard.pieces):
            arrays = shard.load()
            whole = replace(shard.pieces[0], block=ray.put(arrays), start=0, stop=len(arrays), keep=None)
            shard = Shard([whole], shard.rows)
        moved.append(shard)
    return moved
