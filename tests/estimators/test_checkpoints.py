"""Checkpoints in one process: what is written, what a fit that goes on learns, and what it refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xgboost
from pyarrow import fs
from sklearn.base import clone

from raydp_ml import Callback, EarlyStopping, InvalidTypeError, InvalidValueError, TorchEstimator
from raydp_ml.estimators import streamed
from raydp_ml.estimators.checkpoints.folder import Checkpoints
from raydp_ml.estimators.checkpoints.keeping import Keeping
from tests.resumed import RNG_ROWS as X
from tests.resumed import RNG_TARGET as Y
from tests.resumed import Interrupted, StopAt, StopRoundAt, net, trees


def values(est: Any) -> list[dict[str, float]]:
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in est.history_]


def weights(est: TorchEstimator) -> dict[str, Any]:
    return est.model_.state_dict()


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adam", "lr_scheduler": "OneCycleLR", "scheduler_step_freq": "batch"},
        {"optimizer": "sgd", "lr_scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau, "validation": 0.25},
        {
            "optimizer": "adam",
            "validation": 0.25,
            "lr": 0.2,
            "early_stopping": 3,
            "num_epochs": 40,
            "precision": "bf16",
        },
    ],
    ids=["one cycle", "plateau", "early stopping"],
)
def test_a_net_that_goes_on_is_the_one_that_was_not_interrupted(tmp_path: Path, settings: dict[str, Any]) -> None:
    whole = net(**settings).fit(X, Y)
    log = tmp_path / "log"
    stopped = {**settings, "storage_path": str(tmp_path / "kept"), "checkpoint_every": 2}
    ended = len(whole.history_)
    # Early stopping is interrupted while it waits for a better epoch than the best one, which lies before the checkpoint.
    stop = ended - 1 if "early_stopping" in settings else 5
    with pytest.raises(Interrupted):
        net(callbacks=[StopAt(log, stop)], **stopped).fit(X, Y)
    est = net(callbacks=[StopAt(log, 0)], **stopped).fit(X, Y, resume=True)
    assert values(est) == values(whole)
    assert all(torch.equal(weights(est)[name], value) for name, value in weights(whole).items())
    made = [*range(1, stop + 1), *range((stop - 1) // 2 * 2 + 1, ended + 1)]
    assert log.read_text().split() == [*map(str, made)]
    # A fit that had ended goes on from its last checkpoint, and learns the same.
    again = net(callbacks=[StopAt(log, 0)], **stopped).fit(X, Y, resume=True)
    assert values(again) == values(whole)
    assert all(torch.equal(weights(again)[name], value) for name, value in weights(whole).items())


@pytest.mark.parametrize(
    "settings",
    [
        {"validation": 0.25, "early_stopping_rounds": 4, "learning_rate": 1.0, "num_boost_round": 60},
        {"subsample": 0.5, "colsample_bynode": 0.5, "num_boost_round": 25},
        {"booster": "dart", "rate_drop": 0.3, "num_boost_round": 25},
        {"booster": "dart", "rate_drop": 0.3, "validation": 0.25, "early_stopping_rounds": 4, "num_boost_round": 60},
        {
            "streaming": True,
            "validation": 0.25,
            "early_stopping_rounds": 4,
            "learning_rate": 1.0,
            "num_boost_round": 60,
        },
        {"external_memory": True, "subsample": 0.5, "validation": 0.25, "num_boost_round": 25},
    ],
    ids=["early stopping", "samples", "dart", "dart, early stopping", "streamed", "external memory"],
)
def test_boosting_that_goes_on_is_that_which_was_not_interrupted(
    tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed, "BUFFER_BYTES", 100 * 20)  # of streamed rows: 300 of 20 bytes in several buffers
    monkeypatch.setattr(streamed, "CHUNKS", 4)

    def rates() -> list[Any]:
        return [xgboost.callback.LearningRateScheduler(lambda number: 0.9 / (1 + number))]

    kept = {**settings, "checkpoint_every": 2, "eval_metric": ["mae", "rmse"]}
    whole = trees(callbacks=rates(), storage_path=str(tmp_path / "whole"), **kept).fit(X, Y)
    log = tmp_path / "log"
    ended = len(whole.history_)
    stop = ended - 1 if "early_stopping_rounds" in settings else 8
    with pytest.raises(Interrupted):
        trees(callbacks=[*rates(), StopRoundAt(log, stop)], storage_path=str(tmp_path / "kept"), **kept).fit(X, Y)
    est = trees(callbacks=[*rates(), StopRoundAt(log, 0)], storage_path=str(tmp_path / "kept"), **kept).fit(
        X, Y, resume=True
    )
    assert values(est) == values(whole)
    assert est.model_.save_raw("ubj") == whole.model_.save_raw("ubj")
    made = [*range(1, stop + 1), *range((stop - 1) // 2 * 2 + 1, ended + 1)]
    assert log.read_text().split() == [*map(str, made)]
    if "subsample" not in settings and "booster" not in settings:  # checkpoints alone change nothing
        plain = trees(callbacks=rates(), **{**kept, "checkpoint_every": None}).fit(X, Y)
        assert plain.model_.save_raw("ubj") == whole.model_.save_raw("ubj")
        assert est.best_iteration_ == whole.best_iteration_ == ended - 5


def test_streamed_epochs_go_on_in_the_order_of_their_shuffling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "BUFFER_BYTES", 100 * 20)
    monkeypatch.setattr(streamed, "CHUNKS", 4)
    settings = {"streaming": True, "validation": 0.25, "num_epochs": 5}
    whole = net(**settings).fit(X, Y)
    with pytest.raises(Interrupted):
        net(callbacks=[StopAt(tmp_path / "log", 3)], storage_path=str(tmp_path / "kept"), **settings).fit(X, Y)
    est = net(callbacks=[StopAt(tmp_path / "log", 0)], storage_path=str(tmp_path / "kept"), **settings)
    assert values(est.fit(X, Y, resume=True)) == values(whole)
    assert (tmp_path / "log").read_text().split() == [*"123", *"345"]


def test_a_fit_is_refused_the_checkpoints_of_another_by_what_differs(tmp_path: Path) -> None:
    kept = {"storage_path": str(tmp_path), "num_epochs": 2}
    net(**kept).fit(X, Y)
    others: dict[str, Callable[[], Any]] = {
        r"lr \(0.05 there, 0.5 now\)\.": lambda: net(**kept, lr=0.5).fit(X, Y, resume=True),
        r"num_epochs \(2 there, 3 now\)\.": lambda: net(**{**kept, "num_epochs": 3}).fit(X, Y, resume=True),
        r"differs in model\.": lambda: net(**kept, width=9).fit(X, Y, resume=True),
        r"random_state \(0 there, 1 now\)\.": lambda: net(**kept, random_state=1).fit(X, Y, resume=True),
        r"callbacks": lambda: net(**kept, callbacks=[EarlyStopping(patience=2)]).fit(X, Y, resume=True),
        r"differs in training rows": lambda: net(**kept).fit(X, Y + (np.arange(len(Y)) == 7), resume=True),
        r"differs in training rows.*rows": lambda: net(**kept).fit(X[1:], Y[1:], resume=True),
        r"differs in features": lambda: net(**kept).fit(X[:, :2], Y, resume=True),
        r"estimator": lambda: trees(storage_path=str(tmp_path)).fit(X, Y, resume=True),
    }
    before = sorted(path.name for path in tmp_path.rglob("*"))
    for message, fit in others.items():
        with pytest.raises(InvalidValueError, match=message):
            fit()
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    with pytest.raises(InvalidValueError, match="resume=True needs storage_path"):
        net().fit(X, Y, resume=True)
    with pytest.raises(InvalidValueError, match="checkpoint_every=3 needs storage_path"):
        net(checkpoint_every=3).fit(X, Y)
    with pytest.raises(InvalidValueError, match="checkpoint_every=0 keeps none"):
        net(storage_path=str(tmp_path), checkpoint_every=0).fit(X, Y, resume=True)
    with pytest.raises(InvalidTypeError, match="checkpoint_every='often'"):
        net(storage_path=str(tmp_path), checkpoint_every="often").fit(X, Y)
    with pytest.raises(InvalidValueError, match="storage_path 'nowhere://there' is not a URI"):
        net(storage_path="nowhere://there").fit(X, Y)


def test_a_fit_that_does_not_go_on_begins_anew(tmp_path: Path) -> None:
    log = tmp_path / "log"
    settings = {"storage_path": f"file://{tmp_path}/kept", "num_epochs": 3}
    net(callbacks=[StopAt(log, 0)], **settings).fit(X, Y, resume=True)  # nothing to go on from: from the start
    net(callbacks=[StopAt(log, 0)], **settings).fit(X, Y)
    assert log.read_text().split() == [*"123", *"123"]
    names = sorted(path.name for path in (tmp_path / "kept" / "raydp_ml_checkpoints").iterdir())
    assert names.pop() == "fit.json"
    assert [name.split(".")[1] for name in names] == ["00000002", "00000003"]


def test_checkpoints_lie_on_any_file_system_of_pyarrow(tmp_path: Path) -> None:
    from ray.train import CheckpointConfig, RunConfig

    (tmp_path / "bucket").mkdir()
    run_config = RunConfig(
        name="named",
        storage_path="inner",
        storage_filesystem=fs.SubTreeFileSystem(str(tmp_path / "bucket"), fs.LocalFileSystem()),
        checkpoint_config=CheckpointConfig(num_to_keep=1),
    )
    with pytest.raises(Interrupted):
        net(callbacks=[StopAt(tmp_path / "log", 3)], run_config=run_config).fit(X, Y)
    net(callbacks=[StopAt(tmp_path / "log", 0)], run_config=run_config).fit(X, Y, resume=True)
    assert (tmp_path / "log").read_text().split() == [*"123", *"345678"]
    (kept,) = (tmp_path / "bucket" / "inner" / "named" / "raydp_ml_checkpoints").glob("*.checkpoint")
    assert kept.name.split(".")[1] == "00000008"


def test_a_checkpoint_that_is_damaged_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = tmp_path / "log"
    settings = {"storage_path": str(tmp_path / "kept"), "num_epochs": 5}
    whole = net(callbacks=[StopAt(log, 0)], **settings).fit(X, Y)
    last = max((tmp_path / "kept").rglob("*.checkpoint"))
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    est = net(callbacks=[StopAt(log, 0)], **settings).fit(X, Y, resume=True)
    assert "the checkpoint after epoch 5 cannot be read" in caplog.text
    assert log.read_text().split() == [*"12345", "5"] and values(est) == values(whole)


def test_checkpoints_of_several_workers_count_when_all_have_written(tmp_path: Path) -> None:
    begun = Checkpoints(fs.LocalFileSystem(), str(tmp_path / "kept"), Keeping(1, count=1)).begin({}, resume=False)
    first, second = (begun.of_worker(rank, 2) for rank in range(2))
    history = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": float("nan")}]
    for worker in (second, first):
        worker.write(history[:1], lambda: {"a": b"1"})
    first.write(history, lambda: {"a": b"2"})
    found = second.latest()
    assert found is not None and (found.epoch, found.state, found.history) == (1, {"a": b"1"}, tuple(history[:1]))
    second.write(history, lambda: {"b": b"3"})
    found = second.latest()
    assert found is not None and (found.epoch, found.state, found.own) == (2, {"a": b"2"}, {"b": b"3"})
    # Another fit, and the same on another number of workers, begin at the start.
    assert first.checkpoints.of_worker(0, 1).latest() is None
    assert replace(begun, run="another").of_worker(0, 2).latest() is None
    begun.end(history)
    assert {each.epoch for each in begun.files()} == {2}


class Counts(Callback):
    """Has a state of its own."""

    def __init__(self, step: int = 1) -> None:
        self.step = step

    def on_train_begin(self, training: Any) -> None:
        training.memory[self] = 0

    def on_epoch_end(self, training: Any, metrics: Any) -> None:
        training.memory[self] += self.step
        metrics["counted"] = training.memory[self]

    def state_dict(self, training: Any) -> dict[str, Any]:
        return {"counted": training.memory[self]}

    def load_state_dict(self, training: Any, state: Any) -> None:
        training.memory[self] = state["counted"]


def test_callbacks_keep_a_state_of_their_own_and_have_parameters(tmp_path: Path) -> None:
    settings = {"storage_path": str(tmp_path / "kept"), "num_epochs": 4}
    with pytest.raises(Interrupted):
        net(callbacks=[Counts(2), StopAt(tmp_path / "log", 3)], **settings).fit(X, Y)
    est = net(callbacks=[Counts(2), StopAt(tmp_path / "log", 0)], **settings).fit(X, Y, resume=True)
    assert [entry["counted"] for entry in est.history_] == [2, 4, 6, 8]
    stopping = EarlyStopping(patience=4)
    assert stopping.get_params() == {
        "patience": 4,
        "monitor": None,
        "min_delta": 0.0,
        "mode": "auto",
        "restore_best": True,
    }
    searched = net(early_stopping=stopping)
    copied = clone(searched).set_params(early_stopping__patience=9)
    assert (copied.early_stopping.patience, stopping.patience) == (9, 4)
    with pytest.raises(InvalidValueError, match="patience=0 of EarlyStopping"):
        stopping.set_params(patience=0)
    with pytest.raises(InvalidValueError, match="EarlyStopping has no parameter 'waits'"):
        stopping.set_params(waits=3)


@pytest.mark.parametrize("kind", ["torch", "xgb", "tf"])
def test_a_program_that_is_killed_goes_on_in_a_new_process(tmp_path: Path, kind: str) -> None:
    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tests.resumed", kind, str(tmp_path), "5"]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2])

    assert run().returncode == -signal.SIGKILL
    second = run()
    assert second.returncode == 0, second.stderr
    epochs, prediction = second.stdout.split()
    assert (tmp_path / "log").read_text().split() == [*"12345", *map(str, range(4, int(epochs) + 1))]
    if kind != "tf":
        whole = {"torch": net, "xgb": trees}[kind](storage_path=str(tmp_path / "whole"), checkpoint_every=3).fit(X, Y)
        assert float(whole.predict(X[:1])[0]).hex() == prediction and len(whole.history_) == int(epochs)


class Odd(Callback):
    def state_dict(self, training: Any) -> dict[str, Any]:
        return {"path": Path("somewhere")}


def test_a_state_that_needs_code_to_be_read_is_refused_when_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"callbacks, path holds a pathlib.*cannot stand in a checkpoint"):
        net(callbacks=[Odd()], storage_path=str(tmp_path)).fit(X, Y)


def test_the_history_is_a_frame_and_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import raydp_ml

    est = trees(validation=0.25, eval_metric=["mae", "rmse"], num_boost_round=6).fit(X, Y)
    frame = pd.DataFrame(est.history_)
    assert frame["epoch"].tolist() == [1, 2, 3, 4, 5, 6] and {"train_mae", "valid_rmse", "seconds"} < set(frame)
    ax = raydp_ml.plot_history(est)
    assert ax.get_ylabel() == "mae" and ax.get_xlabel() == "round"
    assert [line.get_ydata().tolist() for line in ax.lines] == [
        frame["train_mae"].tolist(),
        frame["valid_mae"].tolist(),
    ]
    ((x, y),) = ax.collections[0].get_offsets().tolist()
    assert (x - 1, y) == (frame["valid_mae"].idxmin(), frame["valid_mae"].min())
    same = raydp_ml.plot_history(est, ax, metric="rmse")
    assert same is ax and len(ax.lines) == 4
    with pytest.raises(InvalidValueError, match="metric='auc' is not in the history, which has mae, rmse"):
        raydp_ml.plot_history(est, metric="auc")
    with pytest.raises(raydp_ml.NotFittedError):
        raydp_ml.plot_history(trees())
    with pytest.raises(InvalidTypeError, match="got a Linear"):
        raydp_ml.plot_history(torch.nn.Linear(1, 1))
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(raydp_ml.MissingDependencyError, match=r"raydp-ml\[plot\]"):
        raydp_ml.plot_history(est)


def test_what_stands_in_the_folder_says_what_the_fit_is(tmp_path: Path) -> None:
    trees(storage_path=str(tmp_path), checkpoint_every=5, subsample=0.5).fit(X, Y)
    head = json.loads((tmp_path / "raydp_ml_checkpoints" / "fit.json").read_text())
    assert head["fit"]["subsample"] == "0.5" and "verbose" not in head["fit"]
    assert head["fit"]["training rows"].startswith("300 rows ")
