"""Running the trials of a search with Ray Tune: quietly, in temporary storage, and interruptible."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from raydp_ml.cluster.ray_connection import start_quiet_ray
from raydp_ml.cluster.resources import cores, room_for
from raydp_ml.exchange.ray_client import require_cluster_driver
from raydp_ml.search.trainable import METRIC, Candidates, SearchTrial
from raydp_ml.search.trial import Plan, nested_estimators
from raydp_ml.search.watching import EndOfSearch, Observer, Watch

__all__ = ["Queue", "Settings", "ray_running", "run_trials", "trial_resources"]


@contextmanager
def ray_running() -> Iterator[None]:
    """Ray for the time of a search: the cluster in use, or else one of this machine that ends with it."""
    import ray

    if ray.is_initialized():
        require_cluster_driver("a search")
        yield
        return
    start_quiet_ray()
    try:
        yield
    finally:
        ray.shutdown()


def trial_resources(estimator: Any, given: Mapping[str, float] | None) -> tuple[dict[str, float], dict[str, float]]:
    """What a trial asks Ray for, and what it takes together with the workers that it starts.

    Parameters
    ----------
    estimator : estimator
        The estimator that trials fit.
    given : mapping or None
        The search's ``resources_per_trial``.

    Returns
    -------
    own, all : dict
        Amounts by resource.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> trial_resources(DummyClassifier(), {"cpu": 2})
    ({'CPU': 2.0}, {'CPU': 2.0})
    """
    own = {_resource(name): float(amount) for name, amount in (given or {"CPU": 1}).items()}
    together = dict(own)
    for each in nested_estimators(estimator):
        scaling = each.scaling_config
        workers = each.num_workers or 0 if scaling is None else scaling.num_workers or 0
        if workers > 1 or scaling is not None:
            one = {"CPU": 1.0, **(each.resources_per_worker or {})}
            if each.use_gpu:
                one.setdefault("GPU", 1.0)
            for name, amount in one.items():
                together[name] = together.get(name, 0.0) + workers * amount
    return own, together


def _resource(name: str) -> str:
    return {"cpu": "CPU", "gpu": "GPU"}.get(name, name)


@dataclass(frozen=True)
class Settings:
    """How trials run.

    Parameters
    ----------
    resources : tuple of dict
        See :func:`trial_resources`.
    max_concurrent_trials : int or None
        How many run at once; None: as many as the free resources hold.
    storage_path, run_config : object
        Where Ray Tune keeps its files, and its configuration; None: a temporary folder that is removed.
    scheduler : object or None
        Stops weak candidates early; see :mod:`raydp_ml.search.schedulers`.
    time_budget_s : float or None
        For how long trials may run.
    """

    resources: tuple[dict[str, float], dict[str, float]]
    max_concurrent_trials: int | None = None
    storage_path: Any = None
    run_config: Any = None
    scheduler: Any = None
    time_budget_s: float | None = None


def run_trials(
    plan: Plan, candidates: Candidates, queue: Queue, settings: Settings, observer: Observer, failed: Callable[[], bool]
) -> Any:
    """Run one trial per candidate.

    Parameters
    ----------
    plan : Plan
        The search.
    candidates : Candidates
        Finds the candidate of a trial.
    queue : Queue
        Which candidates run, in which order.
    settings : Settings
        How they run.
    observer : Observer
        Is told what happens.
    failed : callable
        Whether the search is to end because of an exception.

    Returns
    -------
    ray.tune.ResultGrid
        What Ray Tune has of the trials.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C, when the trials have been stopped.
    """
    import ray

    own, together = settings.resources
    advice = "Give Ray more CPUs, or the search smaller resources_per_trial."
    with room_for(together, "trial(s) of the search", advice, count=queue.count) as room:
        if own == together:
            # Tune starts a trial whenever there is room for it; executors go on lending while the search runs.
            total = ray.cluster_resources()
            fits = [int(total.get(name, 0.0) // amount) for name, amount in own.items() if amount]
            room = max(room, min(fits, default=room))
            if own.get("CPU") and sum(node["Alive"] for node in ray.nodes()) == 1:
                # Another process on the same cores would only import once more what all of them import.
                room = min(room, max(1, int(cores() // own["CPU"])))
        return _run(plan, candidates, queue, settings, observer, failed, room)


def _run(
    plan: Plan,
    candidates: Candidates,
    queue: Queue,
    settings: Settings,
    observer: Observer,
    failed: Callable[[], bool],
    room: int,
) -> Any:
    """Run the trials, at most so many at once as there is room for."""
    import ray
    from ray import tune

    own, _ = settings.resources
    trainable = tune.with_resources(tune.with_parameters(SearchTrial, plan=plan, candidates=candidates), dict(own))
    end = EndOfSearch(failed, settings.time_budget_s)
    watch = Watch(observer, end)
    scratch = None
    if settings.storage_path is None and settings.run_config is None:
        scratch = tempfile.mkdtemp(prefix="raydp_ml_search_")
    tuner = tune.Tuner(
        trainable,
        param_space={"candidate": tune.grid_search(queue.order)} if queue.searcher is None else {},
        tune_config=tune.TuneConfig(
            metric=METRIC if plan.metric is not None else None,
            mode="max" if plan.metric is not None else None,
            scheduler=settings.scheduler,
            search_alg=queue.searcher,
            num_samples=queue.trials,
            max_concurrent_trials=min(settings.max_concurrent_trials or room, queue.count),
            reuse_actors=True,
        ),
        run_config=_run_config(settings, scratch, watch, end),
    )
    try:
        with _quiet(), _interruptible(watch) as interrupted:
            results = tuner.fit()
        if interrupted.is_set():
            raise KeyboardInterrupt
        return results
    finally:
        watch.trials.clear()
        if scratch is not None and ray.is_initialized():
            shutil.rmtree(scratch, ignore_errors=True)


@dataclass(frozen=True)
class Queue:
    """The candidates that run: those of ``order``, or ``count`` that a searcher suggests, each as one trial or in shares."""

    order: list[int]
    count: int
    searcher: Any = None
    in_shares: bool = False

    @property
    def trials(self) -> int:
        """How many trials Tune makes of what there is; -1: as many as the searcher wants."""
        if self.in_shares:
            return -1
        return 1 if self.searcher is None else self.count


def _run_config(settings: Settings, scratch: str | None, watch: Watch, end: EndOfSearch) -> Any:
    from ray import tune

    # A trial whose process dies is tried once more: memory may have been short for a moment.
    again = tune.FailureConfig(max_failures=1)
    # Trials keep nothing to go on from, and Tune would end the search before it tells of the one it writes down.
    nothing_kept = tune.CheckpointConfig(checkpoint_at_end=False)
    given = settings.run_config
    if given is None:
        return tune.RunConfig(
            storage_path=str(scratch or settings.storage_path),
            verbose=0,
            callbacks=[watch],
            stop=end,
            checkpoint_config=nothing_kept,
            failure_config=again,
        )
    # A copy: what the user gave stays as it is.
    return replace(
        given,
        callbacks=[*(given.callbacks or []), watch],
        storage_path=given.storage_path if settings.storage_path is None else str(settings.storage_path),
        stop=end if given.stop is None else _with_rule(given.stop, end),
        checkpoint_config=nothing_kept,
        failure_config=again if given.failure_config in (None, tune.FailureConfig()) else given.failure_config,
    )


def _with_rule(rule: Any, end: EndOfSearch) -> Any:
    """The user's rule and the end of the search as one."""
    from ray.tune.stopper import CombinedStopper, FunctionStopper, Stopper

    rules = rule if isinstance(rule, list) else [rule]
    stoppers = []
    for each in rules:
        if isinstance(each, Mapping):
            each = FunctionStopper(partial(_reached, dict(each)))
        elif not isinstance(each, Stopper):
            each = FunctionStopper(each)
        stoppers.append(each)
    return CombinedStopper(*stoppers, end)


def _reached(limits: Mapping[str, float], trial_id: str, result: Mapping[str, Any]) -> bool:
    """Ray Tune's rule for a dict: whether a number of the result has reached its limit."""
    return any(name in result and result[name] >= limit for name, limit in limits.items())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray Tune from printing and from writing logs for viewers."""
    wanted = {
        "RAY_AIR_NEW_OUTPUT": "0",  # the only way to have no table at verbose=0
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # see _interruptible
    }
    before = {name: os.environ.get(name) for name in wanted}
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.train", "ray.air")]
    levels = [logger.level for logger in loggers]
    os.environ.update(wanted)
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _interruptible(watch: Watch) -> Iterator[threading.Event]:
    """Make Ctrl-C end the trials at once.

    Tune's own handler waits for the running steps, up to ten seconds, and stays installed. Here Ctrl-C kills the trials'
    processes and then interrupts Tune by the signal that it listens to besides, so that it cleans up after itself.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def kill_trials() -> None:
        import ray

        for trial in list(watch.trials.values()):
            actor = trial.temporary_state.ray_actor
            if actor is not None:
                ray.kill(actor)

    def handle(number: int, frame: Any) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()
        threading.Thread(target=kill_trials, daemon=True).start()
        signal.raise_signal(signal.SIGUSR1)

    numbers = (signal.SIGINT, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGINT, handle)
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
