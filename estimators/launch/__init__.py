"""Where a fit runs: one decision, and a class for each place."""

from __future__ import annotations

import warnings

import numpy as np

from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.launch.assignment import Assignment, Placement
from raydp_ml.estimators.launch.here import ThisProcess
from raydp_ml.estimators.launch.place import Place
from raydp_ml.estimators.launch.rows import Side
from raydp_ml.estimators.predictor import Predictor
from raydp_ml.estimators.protocol import Outcome
from raydp_ml.estimators.shards import Shard
from raydp_ml.exchange.ray_seam import is_client
from raydp_ml.session import begin_with_session, warm_predictions

__all__ = ["Assignment", "Place", "Placement", "Side", "choose_place", "run", "warm_with_sessions"]


def choose_place(placement: Placement, modules: tuple[str, ...] = ()) -> Place:
    """Decide where a fit runs.

    Parameters
    ----------
    placement : Placement
        What was asked.
    modules : tuple of str
        What the training imports.

    Returns
    -------
    Place
        This process for no workers; the warm worker for one on CPUs; Ray Train for several workers, GPUs, or its own configuration.

    Examples
    --------
    >>> choose_place(Placement(workers=0)).workers
    0
    """
    if placement.workers == 0:
        return ThisProcess(placement.use_gpu)
    from raydp_ml.exchange.ray_client import require_cluster_driver

    require_cluster_driver("a fit on workers")
    if placement.only_cpus:
        from raydp_ml.estimators.launch.warm_place import WarmPlace

        return WarmPlace(placement, modules)
    from raydp_ml.estimators.launch.ray_train import RayTrainPlace

    return RayTrainPlace(placement)


def warm_with_sessions(training: tuple[str, ...], predicting: tuple[str, ...]) -> None:
    """Have each session that this process starts import what fits and predictions need, while Spark computes the first rows.

    A program that imports an estimator and then starts a session is about to train. A worker that no fit uses ends as the
    others do, after five minutes.

    Parameters
    ----------
    training : tuple of str
        What the trainings of an estimator import.
    predicting : tuple of str
        What its fitted models import.
    """

    def warm() -> None:
        if is_client():
            return
        from raydp_ml.estimators.launch.warm_place import warm_ahead

        warm_ahead(training)
        warm_predictions(("raydp_ml.frames.spark", Predictor.__module__, *predicting))

    begin_with_session(warm)


def run(
    place: Place, assignment: Assignment, train: Side, validation: Side | None, chosen: np.ndarray | None
) -> Outcome:
    """Divide the rows among the workers of a place, and train there.

    Parameters
    ----------
    place : Place
        Where.
    assignment : Assignment
        What all workers are told.
    train, validation : Side
        The rows; the same twice when validation rows are chosen from the training rows.
    chosen : numpy.ndarray of bool, optional
        Which rows to train on, where the others are to validate on; None: all of ``train``, and all of ``validation``.
    """
    count, counted = train.parts(chosen)
    workers = max(place.workers, 1)
    if count < workers:
        warnings.warn(
            f"the training data has {count} {counted}, fewer than num_workers={workers}: training on {count} workers",
            stacklevel=5,
        )
        workers = count
    shards = train.shards(workers, chosen)
    held_out: list[Shard] = []
    if validation is not None:
        held_out = validation.shards(workers, None if chosen is None else ~chosen)
    if held_out and min(shard.rows for shard in held_out) == 0:
        rows = sum(shard.rows for shard in held_out)
        raise InvalidValueError(
            f"validation has {rows} usable rows, too few for {workers} worker(s); give more, or None"
        )
    return place.train(assignment, shards, held_out)
