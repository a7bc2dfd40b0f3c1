"""The warm worker: each fit a fork that finds its library imported, and nothing of the fits before."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
import torch
import xgboost

from raydp_ml import Callback, RaydpMLError, TorchEstimator, XGBEstimator
from raydp_ml.estimators.launch import warm_place
from raydp_ml.estimators.launch.warm_host import WarmHost
from raydp_ml.estimators.launch.warm_place import end_warm_workers
from raydp_ml.estimators.shards import Piece, Shard
from raydp_ml.frames.arrays import Arrays
from tests.waiting import until, until_free

pytestmark = pytest.mark.usefixtures("ray_cluster")

ROWS = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
LABELS = (ROWS[:, 0] + ROWS[:, 1] > 0).astype(np.int64)


def table() -> pa.Table:
    return pa.table({"a": ROWS[:, 0], "b": ROWS[:, 1], "c": ROWS[:, 2], "y": LABELS})


@pytest.fixture(scope="module")
def dataset() -> Any:
    import ray.data

    return ray.data.from_arrow([table().slice(0, 150), table().slice(150)]).materialize()


def trees(**settings: Any) -> XGBEstimator:
    given = {"num_boost_round": 3, "label_column": "y", "random_state": 0, "verbose": False, **settings}
    return XGBEstimator(task="classification", **given)


class Tell(Callback):
    """Prints what the process of a fit is like, and spoils it."""

    def on_train_begin(self, training: Any) -> None:
        print("pid", os.getpid())
        print("drawn", random.random(), np.random.random(), float(torch.rand(())))
        state = (
            "SPOILT" in os.environ,
            torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(),
            xgboost.get_config()["verbosity"],
            hasattr(np, "spoilt"),
            torch.get_num_threads(),
        )
        print("state", *state)
        os.environ["SPOILT"] = "1"
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(True)
        xgboost.set_config(verbosity=0)
        np.spoilt = True


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    lines = [line.partition(" ") for line in capsys.readouterr().out.splitlines()]
    return {name: value for name, _, value in lines}


def test_nothing_of_a_fit_is_left_for_the_next(dataset: Any, capsys: pytest.CaptureFixture[str]) -> None:
    net = TorchEstimator(
        torch.nn.Linear(3, 2), loss="cross_entropy", num_epochs=1, label_column="y", verbose=True, callbacks=[Tell()]
    )
    until_free(4)
    net.fit(dataset)
    first = told(capsys)
    until_free(4)
    net.fit(dataset)
    second = told(capsys)
    threads = min(4, len(os.sched_getaffinity(0)))  # Ray counts 4 CPUs
    assert first["state"] == second["state"] == f"False torch.float32 False 1 False {threads}"
    assert first["pid"] != second["pid"] and os.getpid() not in (int(first["pid"]), int(second["pid"]))
    assert not set(first["drawn"].split()) & set(second["drawn"].split())
    assert "train_loss" in second["[TorchEstimator]"]
    until(lambda: not Path("/proc", second["pid"]).exists(), 5, "the process of a finished fit to end")


def test_it_trains_what_this_process_trains(dataset: Any) -> None:
    here = trees(num_workers=0, validation=0.25).fit(table())
    warm = trees(validation=0.25).fit(dataset)
    np.testing.assert_allclose(
        warm.predict_proba(table())["probability"].combine_chunks().flatten().to_numpy(),
        here.predict_proba(table())["probability"].combine_chunks().flatten().to_numpy(),
    )
    assert [{**entry, "seconds": 0} for entry in warm.history_] == [{**entry, "seconds": 0} for entry in here.history_]


def test_arrays_and_labels_that_are_names_go_there_too() -> None:
    names = np.where(LABELS, "late", "on time").astype(object)
    warm = trees(num_workers=1, label_column=None).fit(ROWS, names)
    assert warm.predict(ROWS).tolist() == trees(label_column=None).fit(ROWS, names).predict(ROWS).tolist()


class Dies(Callback):
    """Kills its process, as often as there are no marks."""

    def __init__(self, folder: Path, times: int) -> None:
        self.folder, self.times = folder, times

    def on_epoch_end(self, training: Any, metrics: dict[str, float]) -> None:
        marks = len(list(self.folder.iterdir()))
        if marks < self.times:
            (self.folder / str(marks)).touch()
            os.kill(os.getpid(), signal.SIGKILL)


class Raises(Callback):
    def on_epoch_end(self, training: Any, metrics: dict[str, float]) -> None:
        raise KeyError("not here")


def net(callback: Callback, **settings: Any) -> TorchEstimator:
    torch.manual_seed(0)
    return TorchEstimator(
        torch.nn.Linear(3, 2),
        loss="cross_entropy",
        num_epochs=1,
        label_column="y",
        verbose=False,
        random_state=0,
        callbacks=[callback],
        **settings,
    )


def test_a_process_that_dies_costs_itself_only(dataset: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    net(Dies(tmp_path, 2), max_retries=2).fit(dataset)
    assert caplog.text.count("starting again") == 2
    for mark in tmp_path.iterdir():
        mark.unlink()
    with pytest.raises(RaydpMLError, match="died 1 times, most recently: it was killed by signal 9"):
        net(Dies(tmp_path, 1), max_retries=0).fit(dataset)
    assert trees().fit(dataset).score(table()) > 0.8


def test_an_error_names_the_users_line_and_is_not_tried_again(dataset: Any, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(
        RaydpMLError, match=r"KeyError: 'not here' \(.*test_warm_worker.py, line \d+, in on_epoch_end\)"
    ):
        net(Raises()).fit(dataset)
    assert "starting again" not in caplog.text


class Waits(Callback):
    """Says its process, and goes on when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_epoch_end(self, training: Any, metrics: dict[str, float]) -> None:
        (self.folder / f"started-{os.getpid()}").touch()
        while not (self.folder / "go").exists():
            time.sleep(0.01)


def started(folder: Path) -> list[int]:
    return [int(file.name.partition("-")[2]) for file in folder.glob("started-*")]


def test_fits_at_the_same_time_each_have_a_process_and_cpus(dataset: Any, tmp_path: Path) -> None:
    until_free(4)
    fits = [net(Waits(tmp_path), resources_per_worker={"CPU": 1.5}) for _ in range(2)]
    threads = [threading.Thread(target=fit.fit, args=[dataset]) for fit in fits]
    for thread in threads:
        thread.start()
    until(lambda: len(started(tmp_path)) == 2, 60, "both fits to run")
    assert ray.available_resources()["CPU"] == 1.0
    (tmp_path / "go").touch()
    for thread in threads:
        thread.join(60)
    assert len(set(started(tmp_path))) == 2
    assert fits[0].history_[0]["train_loss"] == fits[1].history_[0]["train_loss"]
    until_free(4)


def test_ctrl_c_ends_the_fit_and_keeps_the_worker(dataset: Any, tmp_path: Path) -> None:
    # A shell starts what runs in its background with Ctrl-C ignored, and Python leaves that so.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt() -> None:
        try:
            until(lambda: started(tmp_path), 120, "the fit to run")
        finally:  # also when it does not run in time: the fit would wait for ever, and hide that
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        net(Waits(tmp_path)).fit(dataset)
    thread.join(60)
    pid = started(tmp_path)[0]
    until(lambda: not Path("/proc", str(pid)).exists(), 5, "the interrupted process to end")
    until_free(4)
    began = time.monotonic()
    assert trees().fit(dataset).score(table()) > 0.8
    assert time.monotonic() - began < 30


def test_the_worker_ends_when_it_is_told_to_and_comes_back(dataset: Any, capsys: pytest.CaptureFixture[str]) -> None:
    class Parent(Callback):
        def on_train_begin(self, training: Any) -> None:
            print("zygote", os.getppid())

    net(Parent()).fit(dataset)
    parent = int(told(capsys)["zygote"])
    assert Path("/proc", str(parent)).exists()
    end_warm_workers()
    until(lambda: not Path("/proc", str(parent)).exists(), 10, "the worker to end")
    assert trees().fit(dataset).score(table()) > 0.8


def test_an_actor_that_does_not_answer_gets_a_successor(
    dataset: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = trees().fit(dataset).predict_proba(ROWS)
    silent = warm_place._workers.take(1.0)
    warm_place._workers.give_back(silent)
    # No node has what this needs, so nothing answers.
    silent.answers = ray.remote(table).options(num_cpus=0, resources={"nowhere": 1}).remote()
    monkeypatch.setattr(warm_place, "_ANSWER_SECONDS", 0.5)
    np.testing.assert_array_equal(trees().fit(dataset).predict_proba(ROWS), expected)
    assert "a training worker did not answer for 0 s, starting another" in caplog.text
    successor = warm_place._workers.take(1.0)
    warm_place._workers.give_back(successor)
    assert successor.actor != silent.actor
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(silent.actor.answer.remote(), timeout=30)
    ray.cancel(silent.answers)


def test_a_library_that_cannot_be_imported_there_is_told() -> None:
    host = WarmHost()
    shard = Shard([Piece(Arrays(ROWS, LABELS), 0, 400)], 400)
    with pytest.raises(RaydpMLError, match="importing no_such_library ended it"):
        list(host.train("fit", ("no_such_library",), b"", shard, None, 1))
