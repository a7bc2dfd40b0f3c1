"""Running a backend's worker loop: in this process, or on Ray Train workers."""

from __future__ import annotations

import logging
import os
import pickle
import re
import shutil
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import cloudpickle
import numpy as np

from raydp_ml.errors import InvalidValueError, RaydpMLError, ResourceTimeoutError
from raydp_ml.estimators.protocol import Job, Outcome, Rows
from raydp_ml.estimators.reporter import MemoryReporter
from raydp_ml.estimators.shards import Shard, split
from raydp_ml.estimators.survey import Survey, merge, survey
from raydp_ml.frames.arrays import Arrays, Blocks, fetch
from raydp_ml.frames.columns import Feature

__all__ = ["Placement", "Plan", "Side", "look", "run"]

_log = logging.getLogger("raydp_ml.estimators")

# How long to wait for the workers' resources before saying what is missing.
_RESOURCE_TIMEOUT = "RAYDP_ML_RESOURCE_TIMEOUT_S"
# What gloo, NCCL, xgboost and TensorFlow say when the process at the other end is gone.
_LOST_PEER = re.compile(
    r"gloo.*(connection|timed out)|connection (reset|closed|refused)|closed by peer|nccl|rabit|collective"
    r"|DistNetworkError|UnavailableError",
    re.IGNORECASE | re.DOTALL,
)
# Blocks are looked at by at most this many tasks at once.
_SURVEY_TASKS = 8


@dataclass(frozen=True)
class Placement:
    """Where a fit runs; ``workers`` 0 means this process."""

    workers: int = 0
    use_gpu: bool = False
    resources_per_worker: dict[str, float] | None = None
    scaling_config: Any = None
    run_config: Any = None
    storage_path: Any = None
    max_retries: int = 3


@dataclass
class Plan:
    """What all workers of a fit are told."""

    backend: Any
    task: str
    features: tuple[Feature, ...]
    label: str
    outputs: int = 1
    classes: np.ndarray | None = None
    class_weight: np.ndarray | None = None
    seed: int | None = None
    previous: Any = None
    verbose: bool = True
    epochs: int | None = None


@dataclass
class Side:
    """The training rows or the validation rows: their blocks, and what is known of them."""

    blocks: list[Any]
    sizes: list[int]
    known: Survey
    selection: Any = None
    keep_alive: Any = None

    def shards(self, workers: int, chosen: np.ndarray | None) -> list[Shard]:
        """Divide the usable rows, or those of them that are chosen."""
        usable = self.known.usable
        if usable is not None:
            chosen = usable if chosen is None else usable & chosen
        return split(self.blocks, self.sizes, chosen, workers, self.selection)


# -- looking at the rows -------------------------------------------------------------------------------------------


def look(data: Arrays | Blocks, classify: bool, drop_nulls: bool, here: bool) -> Side:
    """Survey all rows, with small tasks beside the blocks, or with ``here`` in this process."""
    if isinstance(data, Arrays):
        return Side([data], [len(data)], survey(data, classify, drop_nulls))
    if here:
        parts = [fetch(ref, data.selection) for ref in data.refs]
        known = [survey(part, classify, drop_nulls) for part in parts]
        return Side(list(parts), [part.rows for part in known], merge(known), keep_alive=data.keep_alive)
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
    known = [part for answer in answers for part in answer]
    return Side(data.refs, [part.rows for part in known], merge(known), data.selection, data.keep_alive)


def _survey_blocks(refs: list[Any], selection: Any, classify: bool, drop_nulls: bool) -> list[Survey]:
    return [survey(fetch(ref, selection), classify, drop_nulls) for ref in refs]


# -- jobs ----------------------------------------------------------------------------------------------------------


def _rows(plan: Plan, arrays: Arrays, what: str) -> Rows:
    label, weight = arrays.label, arrays.weight
    if label is None:
        raise InvalidValueError(f"{what} has no label")
    if plan.classes is not None:
        label = encode_labels(label, plan.classes, what)
        if plan.class_weight is not None:
            by_class = plan.class_weight[label].astype(np.float32)
            weight = by_class if weight is None else weight * by_class
    else:
        label = np.asarray(label, np.float64)
    return Rows(np.ascontiguousarray(arrays.X, np.float32), label, weight, arrays.qid, arrays.base_margin)


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


def _job(
    plan: Plan, rank: int, shards: Sequence[Shard], validation: Sequence[Shard], threads: int | None, use_gpu: bool
) -> Job:
    return Job(
        task=plan.task,
        features=plan.features,
        train=_rows(plan, shards[rank].load(), "the training data"),
        validation=_rows(plan, validation[rank].load(), "validation") if validation else None,
        classes=plan.classes,
        rank=rank,
        world_size=len(shards),
        rows_per_rank=tuple(shard.rows for shard in shards),
        validation_rows_per_rank=tuple(shard.rows for shard in validation),
        seed=plan.seed,
        threads=threads,
        use_gpu=use_gpu,
        previous=plan.previous,
    )


# -- running -------------------------------------------------------------------------------------------------------


def run(
    plan: Plan,
    placement: Placement,
    train: Side,
    validation: Side | None,
    chosen: tuple[np.ndarray | None, np.ndarray | None],
    reporter: MemoryReporter | None = None,
) -> Outcome:
    """Train, and bring the fitted model and its history into this process.

    Parameters
    ----------
    plan : Plan
        What all workers are told.
    placement : Placement
        Where to run.
    train, validation : Side
        The rows.
    chosen : tuple
        Which rows of either side to use; None: all.
    reporter : MemoryReporter, optional
        For a fit in this process, where its metrics go.
    """
    usable = train.known.rows if train.known.usable is None else train.known.usable
    if chosen[0] is not None:
        usable = chosen[0] if isinstance(usable, int) else usable & chosen[0]
    count = usable if isinstance(usable, int) else int(usable.sum())
    workers = max(placement.workers, 1)
    if count < workers:
        warnings.warn(
            f"the training data has {count} rows, fewer than num_workers={workers}: training on {count} workers",
            stacklevel=4,
        )
        workers = count
    shards = train.shards(workers, chosen[0])
    held_out = validation.shards(workers, chosen[1]) if validation is not None else []
    if held_out and min(shard.rows for shard in held_out) == 0:
        rows = sum(shard.rows for shard in held_out)
        raise InvalidValueError(
            f"validation has {rows} usable rows, too few for {workers} worker(s); give more, or None"
        )
    if placement.workers == 0:
        reporter = reporter or MemoryReporter(plan.label, plan.verbose, plan.epochs)
        fitted = plan.backend.train(_job(plan, 0, shards, held_out, None, placement.use_gpu), reporter)
        return Outcome(fitted, reporter.history)
    return _run_on_workers(plan, placement, workers, shards, held_out)


def _run_on_workers(
    plan: Plan, placement: Placement, workers: int, shards: list[Shard], validation: list[Shard]
) -> Outcome:
    import ray

    plan.backend.rehearse(_rehearsal(plan))
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    scaling = _scaling_config(placement, workers)
    _await_resources(scaling)
    payload = ray.put(
        {
            "plan": cloudpickle.dumps(plan),
            "shards": _into_store(shards),
            "validation": _into_store(validation),
            "use_gpu": bool(scaling.use_gpu),
            "checkpoint": placement.storage_path is not None or placement.run_config is not None,
        }
    )
    scratch = None
    if placement.storage_path is None and placement.run_config is None:
        scratch = tempfile.mkdtemp(prefix="raydp_ml_fit_")
    try:
        answer = _fit_with_retries(plan, placement, scaling, {"payload": payload}, scratch)
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
    outcome = pickle.loads(answer)
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _rehearsal(plan: Plan) -> Job:
    """A job of two rows of zeros."""
    width = sum(feature.width for feature in plan.features)
    y = np.zeros(2 if plan.outputs == 1 else (2, plan.outputs), np.int64 if plan.classes is not None else np.float64)
    rows = Rows(np.zeros((2, width), np.float32), y)
    return Job(plan.task, plan.features, rows, classes=plan.classes, rows_per_rank=(2,), previous=plan.previous)


def _fit_with_retries(plan: Plan, placement: Placement, scaling: Any, config: dict, scratch: str | None) -> bytes:
    """Run the trainer. A worker that died is tried again; an error that training itself raised is not."""
    from ray.train import TrainingFailedError

    for attempt in range(placement.max_retries + 1):
        trainer = plan.backend.trainer_class(scaling.num_workers)(
            _worker_main, train_loop_config=config, scaling_config=scaling, run_config=_run_config(placement, scratch)
        )
        try:
            with _quick_polls():
                return trainer.fit().return_value
        except TrainingFailedError as error:
            failures = [_unwrapped(failure) for failure in getattr(error, "worker_failures", {}).values()] or [error]
            own = [failure for failure in failures if not _is_lost_worker(failure)]
            if own:
                raise _training_error(own[0]) from error
            if attempt == placement.max_retries:
                raise RaydpMLError(
                    f"a training worker died {attempt + 1} times, most recently: {failures[0]}; out of memory, perhaps"
                ) from error
            _log.warning("a training worker died, starting again (%d of %d)", attempt + 1, placement.max_retries)
    raise RaydpMLError("training was not tried: max_retries must be at least 0")


def _unwrapped(failure: BaseException) -> BaseException:
    """A worker's error without Ray Train's wrapper."""
    return getattr(failure, "_base_exc", None) or failure


def _is_lost_worker(failure: BaseException) -> bool:
    """Whether an error says that a worker died: of Ray about it, or of another worker that was talking to it."""
    from ray.exceptions import RayError

    if isinstance(failure, RayError) or type(failure).__name__ == "WorkerHealthCheckFailedError":
        return True
    return _LOST_PEER.search(f"{type(failure).__module__}.{type(failure).__name__}: {failure}") is not None


def _training_error(cause: BaseException) -> RaydpMLError:
    """An error of a worker, as one of ours with the worker's own message."""
    if isinstance(cause, RaydpMLError):
        return cause
    return RaydpMLError(f"training failed on a worker: {type(cause).__name__}: {cause}")


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


def _into_store(shards: list[Shard]) -> list[Shard]:
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


def _await_resources(scaling: Any) -> None:
    """Wait until the cluster has what the workers need, or say what is missing."""
    import ray

    each = {"CPU": 1.0, **({"GPU": 1.0} if scaling.use_gpu else {}), **(scaling.resources_per_worker or {})}
    wanted = {name: amount * scaling.num_workers for name, amount in each.items() if amount}
    limit = float(os.environ.get(_RESOURCE_TIMEOUT, "60"))
    deadline = time.monotonic() + limit
    while True:
        free = ray.available_resources()
        if all(free.get(name, 0.0) + 1e-6 >= amount for name, amount in wanted.items()):
            return
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    total = ray.cluster_resources()
    table = "\n".join(
        f"  {name:<10} {amount:>10g} {free.get(name, 0.0):>10g} {total.get(name, 0.0):>10g}"
        for name, amount in wanted.items()
    )
    raise ResourceTimeoutError(
        f"no room for {scaling.num_workers} training worker(s) within {limit:g} s:\n"
        f"  {'resource':<10} {'wanted':>10} {'free':>10} {'in all':>10}\n{table}\n"
        "Spark's executors hold the CPUs that they were given: start fewer of them, train with fewer workers, or with "
        "num_workers=0 in this process."
    )


def _worker_main(config: dict[str, Any]) -> bytes:
    """What a Ray Train worker runs; bytes come back, so that Ray's own processes need not import what is inside."""
    import ray
    import ray.train

    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    payload = ray.get(config["payload"])
    plan: Plan = pickle.loads(payload["plan"])
    threads = max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)))
    reporter = MemoryReporter(plan.label, plan.verbose and rank == 0, plan.epochs)
    try:
        job = _job(plan, rank, payload["shards"], payload["validation"], threads, payload["use_gpu"])
        fitted = plan.backend.train(job, reporter)
    except Exception as error:
        if world > 1:  # the other ranks wait in a collective: only Ray can end them
            raise
        # Returned, because Ray would wrap it and log a page about it.
        return cloudpickle.dumps(_training_error(error))
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
