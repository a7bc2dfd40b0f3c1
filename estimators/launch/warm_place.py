"""The warm worker: one worker on CPUs, whose training library is imported before the rows are there.

A fit on Ray Train starts four processes that import what the process before had imported already. Here a Ray actor stays, beside
it a process that has the library imported, and each fit is a fork of that process.
"""

from __future__ import annotations

import atexit
import logging
import math
import pickle
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import cloudpickle

from raydp_ml.errors import RaydpMLError, ResourceTimeoutError
from raydp_ml.estimators.launch.assignment import Assignment, Placement
from raydp_ml.estimators.launch.cpus import CpuReservation, node_for
from raydp_ml.estimators.launch.encoding import Encoding
from raydp_ml.estimators.launch.place import Place
from raydp_ml.estimators.launch.rows import Side, into_store, look_here, side_of
from raydp_ml.estimators.protocol import Outcome
from raydp_ml.estimators.shards import Shard
from raydp_ml.frames.arrays import Arrays, Blocks
from raydp_ml.progress import waiting_for
from raydp_ml.session import end_with_session

__all__ = ["WarmPlace", "end_warm_workers", "warm_ahead"]

_log = logging.getLogger("raydp_ml.estimators")

# A worker that no fit has used for so long ends.
_IDLE_SECONDS = 300.0
# Fits at the same time that one actor serves; each is a process of its own.
_FITS_AT_ONCE = 16
# Ctrl-C is seen after this at most.
_INTERRUPT_SECONDS = 0.5
# An actor that has not answered for so long gets a successor, and the last of so many is an error. Seen once in Ray 2.60: the actor
# ran, the news of it was lost on the way to this process, and what it was asked never reached it.
_ANSWER_SECONDS = 60.0
_ACTORS = 3


@dataclass
class _Worker:
    """The actor, what is ready when it has answered for the first time, and when it was used last."""

    actor: Any
    answers: Any
    node: str
    job: str
    used: float = field(default_factory=time.monotonic)
    fits: int = 0


class _Workers:
    """The warm worker of this process; a new one when Ray was started again, or its node is gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worker: _Worker | None = None
        self._timer: threading.Timer | None = None

    def take(self, cpus: float) -> _Worker:
        """The worker, which is not ended while a fit uses it."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from raydp_ml.estimators.launch.warm_host import WarmHost

        job = ray.get_runtime_context().get_job_id()
        with self._lock:
            worker = self._worker
            if worker is None or worker.job != job or not _is_alive(worker):
                node = node_for(cpus)
                actor = (
                    ray.remote(WarmHost)
                    .options(
                        num_cpus=0,
                        max_concurrency=_FITS_AT_ONCE,
                        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
                    )
                    .remote()
                )
                worker = self._worker = _Worker(actor, actor.answer.remote(), node, job)
            worker.fits += 1
            return worker

    def give_back(self, worker: _Worker) -> None:
        """A fit is through with the worker."""
        with self._lock:
            worker.fits -= 1
            worker.used = time.monotonic()
            self._watch()

    def lose(self, worker: _Worker) -> None:
        """The worker's actor has died."""
        with self._lock:
            if self._worker is worker:
                self._worker = None

    def end(self) -> None:
        """End the worker, unless a fit uses it."""
        with self._lock:
            self._end_if_idle(0.0)

    def _watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(_IDLE_SECONDS, self._idle)
        self._timer.daemon = True
        self._timer.start()

    def _idle(self) -> None:
        with self._lock:
            self._end_if_idle(_IDLE_SECONDS)

    def _end_if_idle(self, seconds: float) -> None:
        import ray

        worker = self._worker
        if worker is None or worker.fits or time.monotonic() - worker.used < seconds:
            return
        self._worker = None
        if ray.is_initialized() and ray.get_runtime_context().get_job_id() == worker.job:
            ray.kill(worker.actor)


def _is_alive(worker: _Worker) -> bool:
    import ray

    return any(node["NodeID"] == worker.node and node["Alive"] for node in ray.nodes())


_workers = _Workers()


def end_warm_workers() -> None:
    """End the warm worker of this process, unless a fit uses it; the next fit starts another."""
    _workers.end()


def warm_ahead(modules: tuple[str, ...]) -> None:
    """Have a worker import modules at leisure, for a fit that may come; does not wait for it.

    Parameters
    ----------
    modules : tuple of str
        What the training imports.
    """
    worker = _workers.take(1.0)
    try:
        worker.actor.warm.remote(modules, leisurely=True)
    finally:
        _workers.give_back(worker)


atexit.register(end_warm_workers)
end_with_session(end_warm_workers)


class WarmPlace(Place):
    """The warm worker.

    Parameters
    ----------
    placement : Placement
        What was asked; ``only_cpus`` is true.
    modules : tuple of str
        What the training imports.
    """

    def __init__(self, placement: Placement, modules: tuple[str, ...]) -> None:
        self._placement, self._modules = placement, modules
        self._fit = uuid.uuid4().hex
        self._worker: _Worker | None = None

    @property
    def workers(self) -> int:
        """One worker."""
        return 1

    def prepare(self) -> None:
        """Have the training library imported, where Ray runs already."""
        import ray

        if ray.is_initialized():
            self._start()

    def look(self, data: Arrays | Blocks, classify: bool, drop_nulls: bool, keep: bool = True) -> Side:
        """Survey all rows in the worker, which keeps what it read or has one block after the other in memory."""
        if isinstance(data, Arrays):
            return look_here(data, classify, drop_nulls)
        import ray

        try:
            with waiting_for("the training worker starts, and looks at the rows"):
                worker = self._answering()
                surveys = worker.actor.look.remote(self._fit, data.refs, data.selection, classify, drop_nulls, keep)
                _wait_for(surveys)
                known = ray.get(surveys)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, RaydpMLError):
                raise error.cause from None
            raise
        return side_of(data, known)

    def train(self, assignment: Assignment, shards: list[Shard], validation: list[Shard]) -> Outcome:
        """Train in a process of the worker; one that dies is tried again."""
        from ray.exceptions import RayActorError

        pickled = cloudpickle.dumps(assignment)
        encodings = (assignment.encoding, assignment.validation_encoding) if assignment.streamed else None
        died = "it ended without a result"
        for attempt in range(self._placement.max_retries + 1):
            worker = self._answering()
            try:
                with CpuReservation(worker.node, self._cpus, self._placement.all_cpus) as reserved:
                    answer = self._run(worker, pickled, encodings, shards, validation, reserved.cpus)
            except RayActorError as error:
                died = str(error)
                _workers.lose(worker)
                self.close()
            else:
                if isinstance(answer, bytes):
                    outcome = pickle.loads(answer)
                    if isinstance(outcome, BaseException):
                        raise outcome
                    return outcome
                died = f"it ended with the code {answer}" if answer > 0 else f"it was killed by signal {-answer}"
            if attempt < self._placement.max_retries:
                _log.warning(
                    "a training worker died, starting again (%d of %d)", attempt + 1, self._placement.max_retries
                )
        raise RaydpMLError(
            f"a training worker died {self._placement.max_retries + 1} times, most recently: {died}; out of memory, perhaps"
        )

    def close(self) -> None:
        """Give the worker back; what it does for this fit ends."""
        import ray

        worker, self._worker = self._worker, None
        if worker is not None:
            if ray.is_initialized():
                worker.actor.forget.remote(self._fit)
            _workers.give_back(worker)

    @property
    def _cpus(self) -> float:
        return (self._placement.resources_per_worker or {}).get("CPU", 1.0)

    def _start(self) -> _Worker:
        if self._worker is None:
            import ray

            from raydp_ml.cluster.ray_connection import start_quiet_ray

            if not ray.is_initialized():
                start_quiet_ray()
            self._worker = _workers.take(self._cpus)
            self._worker.actor.warm.remote(self._modules)
        return self._worker

    def _answering(self) -> _Worker:
        """The worker, whose actor has answered; one that has died says so where it is asked next."""
        import ray

        for _ in range(_ACTORS):
            worker = self._start()
            if _wait_for(worker.answers, _ANSWER_SECONDS):
                return worker
            _log.warning("a training worker did not answer for %.0f s, starting another", _ANSWER_SECONDS)
            _workers.lose(worker)
            self.close()
            ray.kill(worker.actor)
        raise ResourceTimeoutError(
            f"{_ACTORS} training workers did not answer for {_ANSWER_SECONDS:.0f} s each; is the Ray cluster well?"
        )

    def _run(
        self,
        worker: _Worker,
        assignment: bytes,
        encodings: tuple[Encoding, Encoding] | None,
        shards: list[Shard],
        validation: list[Shard],
        cpus: float,
    ) -> bytes | int:
        """The pickled answer, or how the process ended without one."""
        import ray

        from raydp_ml.estimators.launch.warm_host import Died, Printed

        rows = into_store(shards)[0]
        held_out = into_store(validation)[0] if validation else None
        stream = worker.actor.train.options(num_returns="streaming").remote(
            self._fit, self._modules, assignment, rows, held_out, cpus, encodings
        )
        with waiting_for("the training worker starts, and trains"):
            _wait_for(stream)
        while True:
            _wait_for(stream)
            try:
                item = ray.get(next(stream))
            except StopIteration:
                raise RaydpMLError("the training worker gave no answer") from None
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, RaydpMLError):
                    raise error.cause from None
                raise
            if isinstance(item, Printed):
                where = sys.stderr if item.error else sys.stdout
                where.write(item.text)
                where.flush()
            elif isinstance(item, Died):
                return item.code
            else:
                return item


def _wait_for(answer: Any, seconds: float = math.inf) -> bool:
    """Wait for an answer, or the next item of a stream or its end; whether it came in time."""
    import ray

    # Ray waits in C++, where Ctrl-C is seen by some versions only.
    deadline = time.monotonic() + seconds
    while not ray.wait([answer], timeout=_INTERRUPT_SECONDS)[0]:
        if time.monotonic() >= deadline:
            return False
    return True
