"""What a child of the zygote does: read its rows, train, and answer."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import cloudpickle

from raydp_ml.errors import RaydpMLError
from raydp_ml.estimators.launch.assignment import Assignment
from raydp_ml.estimators.launch.encoding import Encoding
from raydp_ml.estimators.launch.failures import training_error
from raydp_ml.estimators.launch.rows import job_with, rehearsal_of
from raydp_ml.estimators.launch.shared_rows import SharedRows
from raydp_ml.estimators.launch.training import train
from raydp_ml.estimators.protocol import Rows
from raydp_ml.estimators.streamed import SpooledRows

__all__ = ["Work", "do_work"]


@dataclass(frozen=True)
class Work:
    """One fit: the assignment pickled, how to read the rows, how many threads to use, and where modules are found.

    ``rows`` are those to train on and those to validate on, in memory or on disk, None for none.
    """

    assignment: bytes
    rows: list[SharedRows | SpooledRows | None]
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
        encodings = (assignment.encoding, assignment.validation_encoding)
        rows, validation = (
            None if each is None else _rows(each, given, encoding)
            for each, encoding in zip(told.rows, encodings, strict=True)
        )
        if rows is None:
            raise RaydpMLError("a fit was started without rows")
        counts = () if validation is None else (len(validation),)
        job = job_with(
            assignment,
            rows,
            validation,
            rows_per_rank=(len(rows),),
            validation_rows_per_rank=counts,
            threads=told.threads,
        )
        # Here and not before: the user's process may not have imported all that a model needs.
        assignment.backend.rehearse(rehearsal_of(assignment))
        return cloudpickle.dumps(train(assignment, job))
    except Exception as error:
        return cloudpickle.dumps(_picklable(training_error(error)))


def _rows(described: SharedRows | SpooledRows, files: Iterator[int], encoding: Encoding) -> Rows:
    if isinstance(described, SpooledRows):
        return described.open(list(islice(files, len(described.leaves))))
    file = next(files)
    arrays = described.read(file)
    os.close(file)
    return encoding.of(arrays)


def _picklable(error: RaydpMLError) -> RaydpMLError:
    """The error, or one with its message where something in it cannot travel."""
    try:
        pickle.loads(cloudpickle.dumps(error))
    except Exception:
        return RaydpMLError(f"{type(error).__name__}: {error}")
    return error
