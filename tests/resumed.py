"""Fits that are interrupted, in this process or as programs: ``python -m tests.resumed torch FOLDER 5`` dies in epoch 5."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from raydp_ml import Callback

RNG_ROWS = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
RNG_TARGET = RNG_ROWS[:, 0] - np.sin(2 * RNG_ROWS[:, 1]) + 0.3 * np.random.default_rng(1).normal(size=300)


class Interrupted(Exception):
    """Ends a fit."""


def note(log: Path, epoch: int) -> None:
    """Note that an epoch is being made."""
    with log.open("a") as file:
        file.write(f"{epoch}\n")


class StopAt(Callback):
    """Notes epochs, and stops in one of them: by an exception, or by a signal where it is to kill."""

    def __init__(self, log: Path, epoch: int, kill: bool = False) -> None:
        self._log, self._epoch, self._kill = log, epoch, kill

    def on_epoch_end(self, training: Any, metrics: Any) -> None:
        if training.job.rank:
            return
        again = str(metrics["epoch"]) in (self._log.read_text().split() if self._log.exists() else [])
        note(self._log, metrics["epoch"])
        if metrics["epoch"] == self._epoch and not (self._kill and again):
            if self._kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise Interrupted


def StopRoundAt(log: Path, epoch: int, kill: bool = False) -> Any:
    """The same as a callback of xgboost."""
    from xgboost import collective
    from xgboost.callback import TrainingCallback

    class Stop(TrainingCallback):
        def after_iteration(self, model: Any, epoch_: int, evals_log: Any) -> bool:
            if collective.get_rank():
                return False
            done = epoch_ + 1
            assert len(next(iter(evals_log["train"].values()))) == done
            again = str(done) in (log.read_text().split() if log.exists() else [])
            note(log, done)
            if done == epoch and not (kill and again):
                if kill:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise Interrupted
            return False

    return Stop()


def net(width: int = 8, **settings: Any) -> Any:
    """A net with dropout, whose random state counts."""
    import torch

    from raydp_ml import TorchEstimator

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Linear(3, width), torch.nn.Tanh(), torch.nn.Dropout(0.2), torch.nn.Linear(width, 1)
        )
    given = {"lr": 0.05, "num_epochs": 8, "batch_size": 64, "random_state": 0, "verbose": False, **settings}
    return TorchEstimator(model, loss="mse", **given)


def trees(**settings: Any) -> Any:
    """Boosted trees."""
    from raydp_ml import XGBEstimator

    given = {"num_boost_round": 20, "max_depth": 3, "nthread": 1, "random_state": 0, "verbose": False, **settings}
    return XGBEstimator(objective="reg:squarederror", **given)


def keras_net(**settings: Any) -> Any:
    """A net of Keras."""
    import keras

    from raydp_ml import TFEstimator

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(1)])
    given = {"lr": 0.05, "num_epochs": 8, "batch_size": 64, "random_state": 0, "verbose": False, **settings}
    return TFEstimator(model, loss="mse", **given)


def StopKerasAt(log: Path, epoch: int, kill: bool = False) -> Any:
    """The same as a callback of Keras."""
    import keras

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, number: int, logs: Any = None) -> None:
            if json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]["index"]:
                return
            again = str(number + 1) in (log.read_text().split() if log.exists() else [])
            note(log, number + 1)
            if number + 1 == epoch and not (kill and again):
                if kill:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise Interrupted

    return Stop()


def main(kind: str, folder: Path, epoch: int) -> None:
    """Fit, and go on with what is there; the first time the process is killed in an epoch."""
    stop, make = {"torch": (StopAt, net), "xgb": (StopRoundAt, trees), "tf": (StopKerasAt, keras_net)}[kind]
    est = make(
        callbacks=[stop(folder / "log", epoch, kill=True)], storage_path=str(folder / "kept"), checkpoint_every=3
    )
    est.fit(RNG_ROWS, RNG_TARGET, resume=True)
    print(len(est.history_), float(est.predict(RNG_ROWS[:1])[0]).hex())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
