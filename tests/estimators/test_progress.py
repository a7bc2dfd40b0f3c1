"""What calls say while they wait: a line within two seconds, and nothing where they are to be silent."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from raydp_ml import Callback as TrainingCallback
from raydp_ml import GridSearch, SparkRayPipeline, TorchEstimator, progress
from raydp_ml.progress import Pending
from tests.waiting import until

ROWS = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 2)), columns=["a", "b"]).assign(y=lambda rows: rows.a > 0)


class Screen(io.StringIO):
    """A standard error stream that knows when each line came."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, float]] = []

    def write(self, text: str) -> int:
        self.lines += [(line, time.monotonic()) for line in text.splitlines() if line.startswith("[") and "..." in line]
        return super().write(text)

    def has(self, text: str) -> bool:
        return any(text in line for line, _ in self.lines)

    def seconds_until(self, text: str, begin: float) -> float:
        return next(when for line, when in self.lines if text in line) - begin


def watched(monkeypatch: pytest.MonkeyPatch) -> Screen:
    shown = Screen()
    monkeypatch.setattr(sys, "stderr", shown)
    return shown


def test_a_wait_is_said_once_and_within_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = watched(monkeypatch)
    began = time.monotonic()
    with progress.call("Trees"):
        with progress.waiting_for("short"):
            pass
        with progress.waiting_for(lambda: "the rain to stop"):
            until(lambda: screen.has("[Trees] the rain to stop ..."), 5, "a line")
        later = time.monotonic()
        with progress.waiting_for("the sun"):  # by now the call has taken long, and each wait is said sooner
            until(lambda: screen.has("the sun"), 5, "a second line")
        with progress.waiting_for("the weather"), progress.waiting_for("the wind"):  # the inner one says more
            until(lambda: screen.has("the wind"), 5, "a third line")
    assert screen.seconds_until("the rain", began) < 2 and screen.seconds_until("the sun", later) < 1.2
    assert [line for line, _ in screen.lines] == [
        "[Trees] the rain to stop ...",
        "[Trees] the sun ...",
        "[Trees] the wind ...",
    ]


def test_nothing_is_said_in_a_call_without_lines_nor_in_calls_inside_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = watched(monkeypatch)
    with progress.quiet(), progress.call("Trees"), progress.waiting_for("a line that must not come"):
        Pending("clock", "two seconds are over", 2.0)
        until(lambda: screen.has("[clock]"), 5, "the clock")
    assert [line for line, _ in screen.lines] == ["[clock] two seconds are over ..."]


class Slow(TrainingCallback):
    """Holds the first epoch until a file is there."""

    def __init__(self, go: Path) -> None:
        self.go = go

    def on_epoch_end(self, training: Any, metrics: dict[str, float]) -> None:
        (self.go.parent / "trains").touch()
        deadline = time.monotonic() + 60
        while not self.go.exists() and time.monotonic() < deadline:
            time.sleep(0.01)


def slow_rows(spark: Any, go: Path) -> Any:
    """Rows that Spark has when a file is there."""
    from pyspark.sql import functions as F

    path = str(go)

    @F.udf("double")
    def wait(value: float) -> float:
        deadline = time.monotonic() + 60
        while not Path(path).exists():
            if time.monotonic() > deadline:
                raise TimeoutError(path)
            time.sleep(0.01)
        return value

    return spark.createDataFrame(ROWS).coalesce(1).withColumn("a", wait("a"))


def go_when(condition: Callable[[], bool], go: Path) -> threading.Thread:
    def wait() -> None:
        until(condition, 60, f"the condition for {go.name}")
        go.touch()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_fit_says_what_it_waits_for_and_is_silent_where_it_is_to_be(
    spark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    screen = watched(monkeypatch)

    def net(**settings: Any) -> TorchEstimator:
        (tmp_path / "trains").unlink(missing_ok=True)
        return TorchEstimator(
            torch.nn.Linear(2, 2), loss="cross_entropy", num_epochs=2, label_column="y", random_state=0, **settings
        )

    rows, epoch = tmp_path / "rows", tmp_path / "epoch"
    frame = slow_rows(spark, rows)
    began = time.monotonic()
    go_when(lambda: screen.has("Spark computes the rows"), rows)
    go_when(lambda: screen.has("epoch 1 of 2"), epoch)
    net(callbacks=[Slow(epoch)]).fit(frame)
    assert screen.has("[TorchEstimator] epoch 1 of 2 ...")
    assert screen.lines[0][0].startswith("[TorchEstimator]") and screen.lines[0][1] - began < 2
    screen.lines.clear()

    rows, epoch = tmp_path / "rows again", tmp_path / "epoch again"
    Pending("clock", "rows", 2.5)
    go_when(lambda: screen.has("[clock] rows"), rows)

    def trained_for_long() -> bool:
        until((tmp_path / "trains").exists, 60, "the first epoch")
        Pending("clock", "epoch", 2.5)
        until(lambda: screen.has("[clock] epoch"), 10, "the clock")
        return True

    go_when(trained_for_long, epoch)
    net(callbacks=[Slow(epoch)], verbose=False).fit(slow_rows(spark, rows))
    assert {line for line, _ in screen.lines} == {"[clock] rows ...", "[clock] epoch ..."}


def test_pipelines_and_searches_say_it_too(spark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    screen = watched(monkeypatch)
    net = TorchEstimator(torch.nn.Linear(2, 2), loss="cross_entropy", num_epochs=1, label_column="y")
    pipe = SparkRayPipeline([("clean", "SELECT * FROM __THIS__ WHERE b IS NOT NULL"), ("net", net)])
    go_when(lambda: screen.has("[TorchEstimator] Spark computes the rows"), tmp_path / "pipe")
    pipe.fit(slow_rows(spark, tmp_path / "pipe"))
    go_when(lambda: screen.has("[GridSearch]"), tmp_path / "search")
    search = GridSearch(pipe, {"net__lr": [0.1]}, cv=2, refit=False, verbose=1)
    search.fit(slow_rows(spark, tmp_path / "search"))
    assert search.cv_results_["mean_test_score"].shape == (1,)
