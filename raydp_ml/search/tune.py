"""Running the trials of a search with Ray Tune: quietly, in temporary storage, and interruptible."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from raydp_ml.errors import ResourceTimeoutError
from raydp_ml.search.trial import Outcome, Plan, evaluate

__all__ = ["ray_running", "run_trials", "trial_resources"]

_RESOURCE_TIMEOUT = "RAYDP_ML_RESOURCE_TIMEOUT_S"


@contextmanager
def ray_running() -> Iterator[None]:
    """Ray for the time of a search: the cluster in use, or else one of this machine that ends with it."""
    import ray

    if ray.is_initialized():
        yield
        return
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
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
    params = estimator.get_params(deep=False)
    scaling = params.get("scaling_config")
    workers = getattr(scaling, "num_workers", None) or params.get("num_workers") or 0
    together = dict(own)
    if workers > 1 or scaling is not None:
        each = {"CPU": 1.0, **(params.get("resources_per_worker") or {})}
        if params.get("use_gpu"):
            each.setdefault("GPU", 1.0)
        for name, amount in each.items():
            together[name] = together.get(name, 0.0) + workers * amount
    return own, together


def _resource(name: str) -> str:
    return {"cpu": "CPU", "gpu": "GPU"}.get(name, name)


def _concurrency(together: Mapping[str, float], limit: int) -> int:
    """How many trials the free resources hold; waits for those of one, and says what is missing."""
    import ray

    wait = float(os.environ.get(_RESOURCE_TIMEOUT, "60"))
    deadline = time.monotonic() + wait
    pause = threading.Event()
    while True:
        free = ray.available_resources()
        room = min(
            (int((free.get(name, 0.0) + 1e-6) // amount) for name, amount in together.items() if amount), default=limit
        )
        if room >= 1:
            return min(room, limit)
        total = ray.cluster_resources()
        if time.monotonic() > deadline or any(amount > total.get(name, 0.0) for name, amount in together.items()):
            rows = "\n".join(
                f"  {name:<12} wanted {amount:g}, free {free.get(name, 0.0):g} of {total.get(name, 0.0):g}"
                for name, amount in together.items()
            )
            raise ResourceTimeoutError(
                f"no trial of the search can start: the Ray cluster did not have what one takes within {wait:g} s\n{rows}\n"
                "Give Ray more CPUs, Spark fewer executors, or the search smaller resources_per_trial"
            )
        pause.wait(0.5)


def run_trials(
    plan: Plan,
    order: list[int],
    *,
    resources: tuple[dict[str, float], dict[str, float]],
    max_concurrent_trials: int | None,
    storage_path: Any,
    run_config: Any,
    finished: Callable[[int, Outcome | None, str], None],
) -> None:
    """Run one trial per candidate.

    Parameters
    ----------
    plan : Plan
        The search.
    order : list of int
        The candidates, in the order in which to start them.
    resources : tuple of dict
        See :func:`trial_resources`.
    max_concurrent_trials : int or None
        How many run at once; None: as many as the free resources hold.
    storage_path, run_config : object
        Where Ray Tune keeps its files, and its configuration; None: a temporary folder that is removed.
    finished : callable
        Called in this thread with each candidate, its result or None, and what went wrong or None.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C, when the trials have been stopped.
    """
    import ray
    from ray import tune

    own, together = resources
    room = _concurrency(together, len(order))
    trainable = tune.with_resources(tune.with_parameters(_trainable_class(), plan=plan), dict(own))
    callback = _callback(finished)
    scratch = None
    if run_config is None:
        if storage_path is None:
            scratch = storage_path = tempfile.mkdtemp(prefix="raydp_ml_search_")
        config = tune.RunConfig(
            storage_path=str(storage_path),
            verbose=0,
            callbacks=[callback],
            stop=_stopper(),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        )
    else:
        # A copy: what the user gave stays as it is.
        stored = run_config.storage_path if storage_path is None else str(storage_path)
        config = replace(
            run_config,
            callbacks=[*(run_config.callbacks or []), callback],
            storage_path=stored,
            stop=_stopper() if run_config.stop is None else run_config.stop,
            # Trials keep nothing to go on from, and Tune would end the search before it tells of the one it writes down.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        )
    tuner = tune.Tuner(
        trainable,
        param_space={"candidate": tune.grid_search(order)},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=min(max_concurrent_trials or room, len(order)), reuse_actors=True
        ),
        run_config=config,
    )
    try:
        with _quiet(), _interruptible(callback) as interrupted:
            tuner.fit()
        if interrupted.is_set():
            raise KeyboardInterrupt
    finally:
        callback.trials.clear()
        if scratch is not None and ray.is_initialized():
            shutil.rmtree(scratch, ignore_errors=True)


def _trainable_class() -> type:
    from ray import tune

    class SearchTrial(tune.Trainable):
        """A trial; its process goes on to the next candidate when it is through with one."""

        def setup(self, config: dict[str, Any], plan: Plan) -> None:
            os.environ.setdefault("RAY_TQDM_PATCH_PRINT", "0")
            self._plan, self._candidate = plan, config["candidate"]

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._candidate = new_config["candidate"]
            return True

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """A trial has nothing to go on from."""

        def load_checkpoint(self, checkpoint: Any) -> None:
            """A trial has nothing to go on from."""

        def step(self) -> dict[str, Any]:
            return {
                "candidate": self._candidate,
                "outcome": asdict(evaluate(self._plan, self._candidate)),
                "done": True,
            }

    return SearchTrial


def _callback(finished: Callable[[int, Outcome | None, str], None]) -> Any:
    from ray import tune

    class Watch(tune.Callback):
        """Hands results on, and knows the trials that run."""

        def __init__(self) -> None:
            self.trials: list[Any] = []

        def __reduce__(self) -> Any:
            # Tune writes its configuration down to go on from; what watches lives in this process only.
            return tune.Callback, ()

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.trials.append(trial)

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.trials.remove(trial)
            told = (trial.last_result or {}).get("outcome")
            outcome = None if told is None else Outcome(**told)
            finished(trial.config["candidate"], outcome, "the trial was stopped before it had a result")

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            if trial in self.trials:
                self.trials.remove(trial)
            finished(trial.config["candidate"], None, f"the trial's process failed: {_error_of(trial)}")

    return Watch()


def _error_of(trial: Any) -> str:
    """What Ray says of a trial that failed; the file lies here, whatever the storage is."""
    path = trial.error_file
    return Path(path).read_text(encoding="utf-8") if path and Path(path).exists() else "it died"


def _stopper() -> Any:
    from ray import tune

    class StopAtException(tune.Stopper):
        """With ``error_score="raise"``, one exception ends the search."""

        def __init__(self) -> None:
            self._seen = False

        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            self._seen = self._seen or result.get("outcome", {}).get("exception") is not None
            return False

        def stop_all(self) -> bool:
            return self._seen

    return StopAtException()


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
def _interruptible(callback: Any) -> Iterator[threading.Event]:
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

        for trial in list(callback.trials):
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
