"""What a child of the zygote does: read its rows, train, and answer."""

from __future__ import annotations

import os
import pickle
import sys
from dataclasses import dataclass

import cloudpickle

from raydp_ml.errors import RaydpMLError
from raydp_ml.estimators.launch.assignment import Assignment
from raydp_ml.estimators.launch.failures import training_error
from raydp_ml.estimators.launch.rows import job_of, rehearsal_of
from raydp_ml.estimators.launch.shared_rows import SharedRows
from raydp_ml.estimators.protocol import Outcome
from raydp_ml.estimators.reporter import MemoryReporter
from raydp_ml.estimators.shards import Piece, Shard

__all__ = ["Work", "do_work"]


@dataclass(frozen=True)
class Work:
    """One fit: the assignment pickled, how to read the rows, how many threads to use, and where modules are found.

    ``rows`` are those to train on and those to validate on, None for none.
    """

    assignment: bytes
    rows: list[SharedRows | None]
    threads: int
    path: list[str]
    folder: str


def do_work(work: bytes, files: list[int]) -> bytes:
    """Train, and give the pickled Outcome, or the pickled error.

    Parameters
    ----------
    work : bytes
        A pickled :class:`Work`.
    files : list of int
        Descriptors of the training rows and of the rows to validate on.
    """
    told: Work = pickle.loads(work)
    sys.path[:] = told.path
    os.chdir(told.folder)
    try:
        assignment: Assignment = pickle.loads(told.assignment)
        given = iter(files)
        train, validation = ([] if each is None else [_shard(each, next(given))] for each in told.rows)
        job = job_of(assignment, 0, train, validation, told.threads, False)
        # Here and not before: the user's process may not have imported all that a model needs.
        assignment.backend.rehearse(rehearsal_of(assignment))
        with MemoryReporter(assignment.label, assignment.verbose, assignment.epochs) as reporter:
            fitted = assignment.backend.train(job, reporter)
        return cloudpickle.dumps(Outcome(fitted, reporter.history))
    except Exception as error:
        return cloudpickle.dumps(_picklable(training_error(error)))


def _shard(rows: SharedRows, file: int) -> Shard:
    arrays = rows.read(file)
    os.close(file)
    return Shard([Piece(arrays, 0, len(arrays))], len(arrays))


def _picklable(error: RaydpMLError) -> RaydpMLError:
    """The error, or one with its message where something in it cannot travel."""
    try:
        pickle.loads(cloudpickle.dumps(error))
    except Exception:
        return RaydpMLError(f"{type(error).__name__}: {error}")
    return error
