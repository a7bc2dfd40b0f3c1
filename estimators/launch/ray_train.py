"""Training on the workers of Ray Train: several of them, on GPUs, or with Ray Train's own configuration."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import cloudpickle

from raydp_ml.cluster.ray_connection import start_quiet_ray
from raydp_ml.cluster.resources import room_for
from raydp_ml.errors import RaydpMLError
from raydp_ml.estimators.launch.assignment import Assignment, Placement
from raydp_ml.estimators.launch.cpus import ADVICE, threads_for
from raydp_ml.estimators.launch.failures import is_lost_worker, training_error, unwrapped
from raydp_ml.estimators.launch.place import Place
from raydp_ml.estimators.launch.rows import Side, into_store, job_of, look_in_tasks, rehearsal_of
from raydp_ml.estimators.protocol import Outcome
from raydp_ml.estimators.reporter import MemoryReporter
from raydp_ml.estimators.shards import Shard
from raydp_ml.frames.arrays import Arrays, Blocks
from raydp_ml.progress import waiting_for

__all__ = ["RayTrainPlace"]

_log = logging.getLogger("raydp_ml.estimators")


class RayTrainPlace(Place):
    """The workers of Ray Train.

    Parameters
    ----------
    placement : Placement
        What was asked.
    """

    def __init__(self, placement: Placement) -> None:
        self._placement = placement

    @property
    def workers(self) -> int:
        """How many workers train."""
        return self._placement.workers

    def look(self, data: Arrays | Blocks, classify: bool, drop_nulls: bool) -> Side:
        """Survey all rows, with small tasks beside the blocks."""
        return look_in_tasks(data, classify, drop_nulls)

    def train(self, assignment: Assignment, shards: list[Shard], validation: list[Shard]) -> Outcome:
        """Train, and bring the fitted model and its history into this process."""
        import ray

        placement = self._placement
        assignment.backend.rehearse(rehearsal_of(assignment))
        if not ray.is_initialized():
            start_quiet_ray()
        scaling = _scaling_config(placement, len(shards))
        each = {"CPU": 1.0, **({"GPU": 1.0} if scaling.use_gpu else {}), **(scaling.resources_per_worker or {})}
        payload = ray.put(
            {
                "assignment": cloudpickle.dumps(assignment),
                "shards": into_store(shards),
                "validation": into_store(validation),
                "use_gpu": bool(scaling.use_gpu),
                "checkpoint": placement.storage_path is not None or placement.run_config is not None,
            }
        )
        with room_for(each, "training worker(s)", ADVICE, pieces=len(shards)):
            answer = _fit_in_storage(assignment, placement, scaling, {"payload": payload})
        outcome = pickle.loads(answer)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def _fit_in_storage(assignment: Assignment, placement: Placement, scaling: Any, config: dict) -> bytes:
    """Run the trainer with the storage that was asked for, or with a folder that goes again."""
    if placement.storage_path is not None or placement.run_config is not None:
        return _fit_with_retries(assignment, placement, scaling, config, None)
    scratch = tempfile.mkdtemp(prefix="raydp_ml_fit_")
    try:
        return _fit_with_retries(assignment, placement, scaling, config, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fit_with_retries(
    assignment: Assignment, placement: Placement, scaling: Any, config: dict, scratch: str | None
) -> bytes:
    """Run the trainer. A worker that died is tried again; an error that training itself raised is not."""
    from ray.train import TrainingFailedError

    for attempt in range(placement.max_retries + 1):
        trainer = assignment.backend.trainer_class(scaling.num_workers)(
            _worker_main, train_loop_config=config, scaling_config=scaling, run_config=_run_config(placement, scratch)
        )
        try:
            with _quick_polls(), waiting_for(f"Ray Train starts {scaling.num_workers} worker(s), which train"):
                return trainer.fit().return_value
        except TrainingFailedError as error:
            failures = [unwrapped(failure) for failure in getattr(error, "worker_failures", {}).values()] or [error]
            own = [failure for failure in failures if not is_lost_worker(failure)]
            if own:
                raise training_error(own[0]) from error
            if attempt == placement.max_retries:
                raise RaydpMLError(
                    f"a training worker died {attempt + 1} times, most recently: {failures[0]}; out of memory, perhaps"
                ) from error
            _log.warning("a training worker died, starting again (%d of %d)", attempt + 1, placement.max_retries)
    raise RaydpMLError("training was not tried: max_retries must be at least 0")


@contextmanager
def _quick_polls() -> Iterator[None]:
    """Ray Train's controller looks at its workers every two seconds unless told otherwise, and a short fit waits for that."""
    name = "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"
    if name in os.environ:
        yield
        return
    os.environ[name] = "0.2"
    try:
        yield
    finally:
        os.environ.pop(name, None)


def _scaling_config(placement: Placement, workers: int) -> Any:
    from ray.train import ScalingConfig

    if placement.scaling_config is not None:
        return replace(placement.scaling_config, num_workers=workers)
    return ScalingConfig(
        num_workers=workers, use_gpu=placement.use_gpu, resources_per_worker=placement.resources_per_worker
    )


def _run_config(placement: Placement, scratch: str | None) -> Any:
    from ray.train import RunConfig

    if placement.run_config is not None:
        config = placement.run_config
        return config if placement.storage_path is None else replace(config, storage_path=str(placement.storage_path))
    quiet = {}
    if "logging_config" in {item.name for item in fields(RunConfig)}:  # Ray 2.55 or so
        from ray.train import LoggingConfig

        quiet["logging_config"] = LoggingConfig(log_level="ERROR")
    return RunConfig(
        name=f"raydp_ml_{uuid.uuid4().hex[:8]}", storage_path=scratch or str(placement.storage_path), **quiet
    )


def _worker_main(config: dict[str, Any]) -> bytes:
    """What a Ray Train worker runs; bytes come back, so that Ray's own processes need not import what is inside."""
    import ray
    import ray.train

    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    payload = ray.get(config["payload"])
    assignment: Assignment = pickle.loads(payload["assignment"])
    threads = threads_for(ray.get_runtime_context().get_assigned_resources().get("CPU", 1.0))
    try:
        job = job_of(assignment, rank, payload["shards"], payload["validation"], threads, payload["use_gpu"])
        with MemoryReporter(assignment.label, assignment.verbose and rank == 0, assignment.epochs) as reporter:
            fitted = assignment.backend.train(job, reporter)
    except Exception as error:
        if world > 1:  # the other ranks wait in a collective: only Ray can end them
            raise
        # Returned, because Ray would wrap it and log a page about it.
        return cloudpickle.dumps(training_error(error))
    if payload["checkpoint"]:
        _report_checkpoint(fitted if rank == 0 else None)
    return cloudpickle.dumps(Outcome(fitted, reporter.history) if rank == 0 else None)


def _report_checkpoint(fitted: Any) -> None:
    """Leave the fitted weights where the user asked Ray Train to store things."""
    import ray.train

    if fitted is None:
        ray.train.report({})
        return
    with tempfile.TemporaryDirectory(prefix="raydp_ml_") as folder:
        fitted.write(folder)
        ray.train.report({}, checkpoint=ray.train.Checkpoint.from_directory(folder))
