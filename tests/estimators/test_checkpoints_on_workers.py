"""Workers that are killed go on from the last checkpoint: the warm worker, and those of Ray Train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raydp_ml import Callback
from tests.resumed import RNG_ROWS, RNG_TARGET, StopAt, StopKerasAt, StopRoundAt, keras_net, net, trees

pytestmark = pytest.mark.usefixtures("ray_cluster")

TABLE = pa.table({"a": RNG_ROWS[:, 0], "b": RNG_ROWS[:, 1], "c": RNG_ROWS[:, 2], "y": RNG_TARGET})
KINDS = {"torch": (net, StopAt), "xgb": (trees, StopRoundAt), "tf": (keras_net, StopKerasAt)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_that_is_killed_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    make, stop = KINDS[kind]
    settings = {"checkpoint_every": 3, "label_column": "y", "resources_per_worker": {"CPU": 1}}
    killed = make(
        callbacks=[stop(tmp_path / "log", 5, kill=True)], num_workers=1, storage_path=str(tmp_path / "kept"), **settings
    ).fit(TABLE)
    epochs = len(killed.history_)
    assert caplog.text.count("starting again (1 of 3)") == 1
    assert (tmp_path / "log").read_text().split() == [*"12345", *map(str, range(4, epochs + 1))]
    assert [entry["epoch"] for entry in killed.history_] == list(range(1, epochs + 1)) and epochs in (8, 20)
    if kind == "tf":
        assert killed.score(TABLE) > 0.5
    else:
        whole = make(storage_path=str(tmp_path / "whole"), **settings).fit(TABLE)
        assert np.array_equal(killed.predict(RNG_ROWS), whole.predict(RNG_ROWS))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "about"),
    [*((kind, {}) for kind in KINDS), ("torch", {"streaming": True}), ("xgb", {"external_memory": True})],
)
def test_several_workers_go_on_together(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, about: dict[str, Any]
) -> None:
    make, stop = KINDS[kind]
    settings: dict[str, Any] = {"checkpoint_every": 2, "label_column": "y", "num_workers": 2, **about}
    est = make(
        callbacks=[stop(tmp_path / "log", 6, kill=True)],
        storage_path=str(tmp_path / "kept"),
        validation=0.2,
        **settings,
    ).fit(TABLE)
    assert "starting again (1 of 3)" in caplog.text
    assert [entry["epoch"] for entry in est.history_] == list(range(1, len(est.history_) + 1))
    made = [int(each) for each in (tmp_path / "log").read_text().split()]
    # The other worker may have been killed before it had written its part of the last checkpoint.
    assert (
        made[:6] == [1, 2, 3, 4, 5, 6] and made[6] in (3, 5) and made[6:] == list(range(made[6], len(est.history_) + 1))
    )
    assert est.score(TABLE) > 0.5


@pytest.mark.slow
def test_failures_and_checkpoints_are_rays_own_where_a_run_config_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from ray.train import CheckpointConfig, FailureConfig, RunConfig

    run_config = RunConfig(
        name="named",
        storage_path=str(tmp_path / "kept"),
        failure_config=FailureConfig(max_failures=1),
        checkpoint_config=CheckpointConfig(
            num_to_keep=2, checkpoint_score_attribute="rate", checkpoint_score_order="max"
        ),
    )
    callbacks = [Rate(), StopAt(tmp_path / "log", 5, kill=True)]
    est = net(num_workers=1, label_column="y", run_config=run_config, callbacks=callbacks, max_retries=0).fit(TABLE)
    assert "starting again" not in caplog.text  # it is Ray Train that starts the worker again
    assert (tmp_path / "log").read_text().split() == [*"12345", *"5678"]
    files = (tmp_path / "kept" / "named" / "raydp_ml_checkpoints").glob("*.checkpoint")
    assert {int(file.name.split(".")[1]) for file in files} == {3, 8}
    assert len(est.history_) == 8


class Rate(Callback):
    """A metric that is best after the third epoch."""

    def on_epoch_end(self, training: Any, metrics: Any) -> None:
        metrics["rate"] = -abs(metrics["epoch"] - 3)
