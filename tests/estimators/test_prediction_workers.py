"""The Python workers of Spark that predict: forks of a process that has the model's library imported and has computed nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import uuid
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

import raydp_ml
from raydp_ml import TorchEstimator
from raydp_ml.cluster import python_daemon
from raydp_ml.cluster.python_daemon import PREDICTS
from raydp_ml.session import warm_predictions
from tests.waiting import until

ROWS = pd.DataFrame(np.random.default_rng(0).normal(size=(64, 2)), columns=["a", "b"]).assign(y=lambda rows: rows.a > 0)
ZYGOTE = "raydp_ml.cluster.prediction_zygote"
PREDICTED = ",".join(
    f"raydp_ml.estimators.{name}" for name in ("predictor", "torch.parts", "torch.loop", "torch.fitted")
)


@pytest.fixture(scope="module")
def spark(ray_cluster: None) -> Any:
    yield raydp_ml.init_spark("raydp_ml-predictions", 2, 1, "512m", configs={"spark.ui.enabled": "false"})
    raydp_ml.stop_spark()
    until(lambda: not processes(ZYGOTE), 20, lambda: f"the zygotes to end: {processes(ZYGOTE)}")


def command_line(pid: int | str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def processes(text: str) -> list[int]:
    return [
        int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit() and text in command_line(each.name)
    ]


def describe() -> str:
    """What the process of a worker is like."""
    parent = os.getppid()
    return json.dumps(
        {
            "parent": command_line(parent),
            "daemon": parent,
            "threads of the daemon": len(os.listdir(f"/proc/{parent}/task")),
            "modules": sorted(sys.modules),
            "drawn": [random.random(), np.random.random()],
            "daemon has torch": "libtorch" in Path(f"/proc/{parent}/maps").read_text(),
        }
    )


class Telling(torch.nn.Module):
    """Writes down what its process is like before and after it has predicted."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)
        self.folder = str(folder)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        (Path(self.folder) / f"{os.getpid()}-{uuid.uuid4().hex}.json").write_text(describe())
        return self.layer(X)


def arrow_udf(function: Any, predicts: str | None = None) -> Any:
    """A UDF on Arrow arrays that gives strings, whose workers may be those of predictions."""
    from pyspark.sql import functions as F

    made = F.arrow_udf(function, "string")
    if predicts is not None:
        made._unwrapped._judf.func().envVars().put(PREDICTS, predicts)
    return made


def in_workers(spark: Any, function: Any, predicts: str | None = None) -> Any:
    """What a function without arguments says in a worker."""

    def say(column: pa.Array) -> pa.Array:
        return pa.array([function()] * len(column))

    return json.loads(spark.range(1).select(arrow_udf(say, predicts)("id")).first()[0])


def test_a_session_imports_what_fits_and_predictions_need_before_there_are_any(spark: Any) -> None:
    def importing(program: str) -> bool:
        return any("libtorch_cpu" in Path("/proc", str(pid), "maps").read_text() for pid in processes(program))

    until(lambda: importing("raydp_ml.estimators.launch.zygote"), 60, "torch in the process that fits are forked from")
    until(lambda: importing(ZYGOTE), 60, "torch in the process that predictions are forked from")


def test_predictions_find_everything_imported_and_udfs_of_the_user_nothing(spark: Any, tmp_path: Path) -> None:
    frame = spark.createDataFrame(ROWS).repartition(2).cache()
    net = TorchEstimator(
        Telling(tmp_path), loss="cross_entropy", num_epochs=1, label_column="y", verbose=False, num_workers=1
    ).fit(frame)
    until(lambda: processes(ZYGOTE), 20, "a zygote to be started by the fit")
    for file in tmp_path.iterdir():
        file.unlink()
    assert net.predict(frame).select("prediction").distinct().count() <= 2
    told = [json.loads(file.read_text()) for file in tmp_path.iterdir()]
    assert len(told) >= 2 and len({json.dumps(each["drawn"]) for each in told}) == len(told)
    zygotes = processes(ZYGOTE)
    before = set(in_workers(spark, describe, PREDICTED)["modules"])
    for each in told:
        assert ZYGOTE in each["parent"] and each["daemon"] in zygotes and each["threads of the daemon"] == 1
        assert each["daemon has torch"]
        late = {name.split(".")[0] for name in set(each["modules"]) - before}
        assert late <= {"tests", "__mp_main__", "__main__"}, f"a prediction imported {sorted(late)}"
    user = in_workers(spark, describe)
    assert "python_daemon" in user["parent"] and ZYGOTE not in user["parent"]
    assert not user["daemon has torch"]


def test_libraries_compute_in_a_fork(spark: Any) -> None:
    def compute() -> str:
        import xgboost

        X = np.arange(60_000, dtype=np.float32).reshape(-1, 6) % 7
        y = X[:, 0] > 3
        torch.set_num_threads(2)
        trees = xgboost.train({"nthread": 2, "objective": "binary:logistic"}, xgboost.DMatrix(X, y), num_boost_round=3)
        tensor = torch.from_numpy(X)
        net = torch.nn.Linear(6, 1)
        torch.nn.functional.mse_loss(net(tensor)[:, 0], torch.from_numpy(y.astype(np.float32))).backward()
        return json.dumps(
            {
                "numpy": float((X.T @ X).sum()),
                "torch": float((tensor.T @ tensor).sum()),
                "gradient": bool(net.weight.grad.abs().sum() > 0),
                "xgboost": round(float(trees.predict(xgboost.DMatrix(X)).sum()), 2),
                "parent": command_line(os.getppid()),
            }
        )

    assert warm_predictions(("torch", "xgboost"))
    here, there = json.loads(compute()), in_workers(spark, compute, "torch,xgboost")
    assert ZYGOTE in there.pop("parent") and here.pop("parent") is not None
    assert there == here and there["gradient"]


def test_without_a_zygote_the_daemon_imports(spark: Any) -> None:
    found = processes(ZYGOTE)
    started_by_hosts = [pid for pid in found if ZYGOTE not in command_line(parent_of(pid))]
    for pid in started_by_hosts:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not set(started_by_hosts) & set(processes(ZYGOTE)), 10, "the killed zygote to be gone")
    alone = in_workers(spark, describe, "torch,raydp_ml.names")
    assert "python_daemon" in alone["parent"] and alone["daemon has torch"]
    warm_predictions(("torch",))
    again = in_workers(spark, describe, "torch,raydp_ml.versions,no_such_module")
    assert ZYGOTE in again["parent"] and again["daemon has torch"]


def parent_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]


def test_a_python_without_this_package_has_spark_s_own_daemon(tmp_path: Path) -> None:
    python_daemon.write_module(tmp_path)
    (site,) = {Path(find_spec(name).origin).parents[1] for name in ("pyspark", "py4j")}
    # With -S there is no hook of an editable installation, and so no raydp_ml.
    started = subprocess.run(
        [sys.executable, "-S", "-m", python_daemon.MODULE, "pyspark.worker"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(site)])},
        cwd=tmp_path,
        input=b"",
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (len(started.stdout), started.stderr) == (4, b"")  # its port; then its input was closed
