"""The seam between the estimators and the training libraries.

How to write a backend
----------------------
An estimator class holds parameters only. What is different from library to library stands in two small classes:

*A backend* (:class:`Backend`) is a picklable object of settings that the estimator makes at ``fit`` from its parameters
(``EstimatorBase._make_backend``). It goes to the workers, where ``train(job, reporter)`` runs once per worker and returns the
fitted model. ``train`` finds its rows in ``job.train`` as numpy arrays: ``X`` is one C-contiguous float32 matrix whose columns
follow ``job.features`` (``job.slices()`` cuts it by column name) unless the backend's ``typed`` asks for other types, or a
sparse matrix in the sparse layout (see :mod:`raydp_ml.frames.layouts`), ``y`` holds class numbers 0..k-1 (int64) for
classification and float64 values otherwise, in two dimensions where a row has several labels (each 0 or 1 in the task
``"multilabel"``), ``weight`` is None or float32 with ``class_weight`` already multiplied in; the rows in ``job.validation``
have the weights of the rows only. The arrays may be read-only. It calls ``reporter.report({"epoch": 1, "train_loss": 0.5,
...}, state)`` once per epoch; the history and the progress lines come from there, and the checkpoints: where one is due,
``state()`` is called and gives the state of the training as named pieces of bytes, on rank 0 all of it and on other ranks what
differs there. ``job.checkpoint`` is what to go on from, and epochs count on from it. With ``job.world_size > 1`` the process
group of ``trainer_class(workers)`` is up. Rows are split so that ranks differ by at most one row (``job.rows_per_rank``), none
is dropped, and a backend makes the same number of steps on all ranks: ranks short of a row repeat one with zero weight. Only
what rank 0 returns is kept.

Where the rows are streamed (:mod:`raydp_ml.estimators.streamed`), ``job.train`` and ``job.validation`` are
:class:`~raydp_ml.estimators.streamed.StreamedRows`: their arrays are files, mapped into memory, and ``buffers`` gives
them in chunks. A backend that would bring all of them into memory says why by ``not_streamed``.

A backend may override ``rehearse(job)``, which is called in the user's process, before workers are started, with a job of two rows
of zeros; it raises what would fail on the workers.

*A fitted model* (:class:`Fitted`) is what ``train`` returns: picklable by cloudpickle, and by pickle when the model allows
it. ``predict(X)`` takes such an ``X`` and gives probabilities of shape (rows, classes) for classification, those of each
label for ``"multilabel"``, and values of shape (rows,) or (rows, outputs) otherwise. ``write(directory)`` and
``read(directory, notes, model)`` are its persistence; ``reads_nulls`` says whether the library takes NaN as a missing value
(otherwise such rows never reach it). When the estimator continues (``warm_start``, ``partial_fit``) ``job.previous`` is the
former Fitted, so what training on needs besides the weights, optimizer state say, is kept in an attribute of it;
``for_prediction()`` may return a copy without that, which is what is sent to Spark's executors.

Then ``class MyEstimator(EstimatorBase)`` defines ``__init__`` (storing only), ``_infer_task()``,
``_make_backend(task, n_classes)`` and ``_fitted_type()``; see the folder ``xgb``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from raydp_ml.errors import InvalidValueError, RaydpMLError
from raydp_ml.frames.columns import Feature, column_slices
from raydp_ml.frames.layouts import Matrix

__all__ = ["Backend", "Checkpoint", "Fitted", "Job", "Outcome", "Reporter", "Rows"]


@dataclass
class Rows:
    """Rows of training or validation data, as the worker loop gets them."""

    X: Matrix
    y: np.ndarray
    weight: np.ndarray | None = None
    qid: np.ndarray | None = None
    base_margin: np.ndarray | None = None

    def __len__(self) -> int:
        return int(self.X.shape[0])


@dataclass(frozen=True)
class Checkpoint:
    """What a training had reached after some epochs: the state as rank 0 gave it, and as this rank did."""

    epoch: int
    state: Mapping[str, bytes]
    own: Mapping[str, bytes]
    history: tuple[Mapping[str, float], ...] = ()


def _no_scratch() -> AbstractContextManager[Path]:
    raise RaydpMLError("this training has no folder for files: it is a rehearsal")


@dataclass
class Job:
    """Everything that one worker's ``train`` call is given besides the backend's own settings.

    ``scratch`` makes a folder for files of this training, which goes when its context or the process ends.
    """

    task: str
    features: tuple[Feature, ...]
    train: Rows
    validation: Rows | None = None
    classes: np.ndarray | None = None
    rank: int = 0
    world_size: int = 1
    rows_per_rank: tuple[int, ...] = ()
    validation_rows_per_rank: tuple[int, ...] = ()
    seed: int | None = None
    threads: int | None = None
    use_gpu: bool = False
    previous: Any = None
    checkpoint: Checkpoint | None = None
    checkpoint_every: int = 0
    scratch: Callable[[], AbstractContextManager[Path]] = _no_scratch

    @property
    def epochs_done(self) -> int:
        """How many epochs, or rounds, the checkpoint to go on from has behind it."""
        return 0 if self.checkpoint is None else self.checkpoint.epoch

    def slices(self) -> Iterator[tuple[str, slice]]:
        """Name of each feature column and its part of ``train.X``."""
        return column_slices(self.features)


class Reporter(Protocol):
    """Takes the metrics of each epoch (or boosting round) from a worker loop."""

    def report(self, metrics: Mapping[str, float], state: Callable[[], Mapping[str, bytes]] | None = None) -> None:
        """Take the metrics of one epoch; ``metrics["epoch"]`` counts from 1. ``state`` gives what a checkpoint holds."""
        ...


class Fitted(ABC):
    """A fitted model of one library."""

    reads_nulls: ClassVar[bool]
    """Whether the library itself reads NaN as a missing value; otherwise such rows never reach it."""

    modules: ClassVar[tuple[str, ...]] = ()
    """What predicting imports, for processes that import it ahead."""

    outputs: int | None = None
    """How many values a row's prediction has, where that is not the number of its labels."""

    @property
    @abstractmethod
    def model(self) -> Any:
        """The library's own model object, which users see as ``model_``."""

    @abstractmethod
    def predict(self, X: Matrix) -> np.ndarray:
        """Predict rows: class probabilities, or values."""

    def raw(self, X: Matrix, output: str) -> np.ndarray:
        """Predict another output that the library has: ``"margin"``, ``"leaf"`` or ``"contributions"``, one entry for each row."""
        raise InvalidValueError(f"{type(self).__name__} has no {output} to predict")

    @abstractmethod
    def write(self, directory: str) -> dict[str, Any]:
        """Write the weights below ``directory`` and return what :meth:`read` needs besides, as plain values."""

    @classmethod
    @abstractmethod
    def read(cls, directory: str, notes: dict[str, Any], model: Any = None) -> Fitted:
        """Read what :meth:`write` wrote; ``model`` is the estimator's ``model`` parameter, if it has one."""

    def typed(self, features: tuple[Feature, ...]) -> tuple[Feature, ...]:
        """The features in the types in which ``predict`` takes them, as :meth:`Backend.typed` gave them."""
        return features

    def for_prediction(self) -> Fitted:
        """This without what only going on with training needs, for Spark's executors and Ray's workers."""
        return self

    def for_serving(self) -> Fitted:
        """This for a service that predicts few rows at a time, which must not change the model that the user has."""
        return self.for_prediction()


class Backend(ABC):
    """One training library with the settings of one fit."""

    modules: ClassVar[tuple[str, ...]] = ()
    """What training imports, for processes that import it ahead."""

    @abstractmethod
    def trainer_class(self, workers: int) -> Any:
        """The Ray Train trainer whose workers can talk to each other in this library's way."""

    @abstractmethod
    def train(self, job: Job, reporter: Reporter) -> Fitted:
        """Train on one worker's rows."""

    def typed(self, features: tuple[Feature, ...]) -> tuple[Feature, ...]:
        """The features in the types in which the model takes them; float32 by default.

        Parameters
        ----------
        features : tuple of Feature
            Names and widths; what their types are is for this method to say.
        """
        return features

    def not_streamed(self, goes_on: bool) -> str | None:
        """Why the rows cannot be trained on in chunks; None where they can.

        Parameters
        ----------
        goes_on : bool
            Whether training goes on from a fitted model.
        """
        return None

    def rehearse(self, job: Job) -> None:  # noqa: B027 - by default there is nothing to rehearse
        """Raise what would fail on the workers, in the user's process, before they are started.

        Parameters
        ----------
        job : Job
            Two rows of zeros.
        """


@dataclass
class Outcome:
    """What a fit brings back from its worker."""

    fitted: Any
    history: list[dict[str, float]] = field(default_factory=list)
