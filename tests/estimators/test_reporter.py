"""Where metrics go, and which errors mean that a worker is gone."""

from __future__ import annotations

import pytest

from raydp_ml import InvalidValueError
from raydp_ml.estimators.launch.encoding import encode_labels
from raydp_ml.estimators.launch.failures import is_lost_worker
from raydp_ml.estimators.reporter import MemoryReporter


def test_history_has_every_epoch_and_the_screen_some(capsys):
    reporter = MemoryReporter("Trees", total=100)
    for epoch in range(1, 101):
        reporter.report({"epoch": epoch, "train_loss": 1 / epoch})
    assert [entry["epoch"] for entry in reporter.history] == list(range(1, 101))
    assert all(entry["seconds"] >= 0 for entry in reporter.history)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[Trees] 1/100  train_loss 1" and lines[-1] == "[Trees] 100/100  train_loss 0.01"
    assert len(lines) == 11
    MemoryReporter("Trees", verbose=False).report({"epoch": 1, "train_loss": 0.0})
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer"), True),
        (RuntimeError("NCCL communicator was aborted"), True),
        (type("WorkerHealthCheckFailedError", (Exception,), {})("gone"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (KeyError("carrier"), False),
    ],
)
def test_errors_of_lost_workers_are_told_from_others(error, lost):
    assert is_lost_worker(error) is lost


def test_unseen_labels_are_named():
    import numpy as np

    with pytest.raises(InvalidValueError, match=r"y has labels .* \['a', 'b'\]: \['c'\]"):
        encode_labels(np.array(["a", "c"]), np.array(["a", "b"]), "y")
