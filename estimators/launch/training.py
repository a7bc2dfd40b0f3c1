"""What every worker of a fit does, wherever it runs: read its rows, look for a checkpoint to go on from, and train."""

from __future__ import annotations

from collections.abc import Sequence

from raydp_ml.estimators.launch.assignment import Assignment
from raydp_ml.estimators.launch.rows import job_of
from raydp_ml.estimators.protocol import Outcome
from raydp_ml.estimators.reporter import MemoryReporter
from raydp_ml.estimators.shards import Shard

__all__ = ["train"]


def train(
    assignment: Assignment,
    rank: int,
    shards: Sequence[Shard],
    validation: Sequence[Shard],
    *,
    threads: int | None = None,
    use_gpu: bool = False,
) -> Outcome:
    """Train on one worker's rows, from the last checkpoint of this fit on, where there is one.

    Parameters
    ----------
    assignment : Assignment
        What every worker is told.
    rank : int
        Which of the workers this is.
    shards, validation : sequence of Shard
        The rows of each worker; the latter empty for none.
    threads : int, optional
        How many threads to use; None: as many as the library does by itself.
    use_gpu : bool, default=False
        Whether to train on a GPU.
    """
    job = job_of(assignment, rank, shards, validation, threads, use_gpu)
    checkpoints = None
    if assignment.checkpoints is not None:
        checkpoints = assignment.checkpoints.of_worker(rank, len(shards))
        job.checkpoint, job.checkpoint_every = checkpoints.latest(), assignment.checkpoints.keeping.every
    verbose = assignment.verbose and rank == 0
    with MemoryReporter(assignment.label, verbose, assignment.epochs, checkpoints, job.checkpoint) as reporter:
        fitted = assignment.backend.train(job, reporter)
    return Outcome(fitted, reporter.history)
