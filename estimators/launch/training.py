"""What every worker of a fit does, wherever it runs: look for a checkpoint to go on from, and train."""

from __future__ import annotations

from raydp_ml.estimators.launch.assignment import Assignment
from raydp_ml.estimators.protocol import Job, Outcome
from raydp_ml.estimators.reporter import MemoryReporter

__all__ = ["train"]


def train(assignment: Assignment, job: Job) -> Outcome:
    """Train on one worker's rows, from the last checkpoint of this fit on, where there is one.

    Parameters
    ----------
    assignment : Assignment
        What every worker is told.
    job : Job
        This worker's rows.
    """
    checkpoints = None
    if assignment.checkpoints is not None:
        checkpoints = assignment.checkpoints.of_worker(job.rank, job.world_size)
        job.checkpoint, job.checkpoint_every = checkpoints.latest(), assignment.checkpoints.keeping.every
    verbose = assignment.verbose and job.rank == 0
    with MemoryReporter(assignment.label, verbose, assignment.epochs, checkpoints, job.checkpoint) as reporter:
        fitted = assignment.backend.train(job, reporter)
    return Outcome(fitted, reporter.history)
