"""Training on Ray Train workers: the same model as in one process, and failures that end well."""

from __future__ import annotations

import os
import re
import signal
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import ray.train
import torch
import xgboost
from ray.util.placement_group import placement_group, remove_placement_group
from sklearn.metrics import roc_auc_score
from torch import nn

from raydp_ml import InvalidValueError, RaydpMLError, ResourceTimeoutError, TorchEstimator, XGBEstimator
from raydp_ml.estimators.callbacks import Callback
from raydp_ml.estimators.torch import TrainingLoop, shared_sums
from tests.waiting import until_free

FEATURES = ["month", "day", "minute", "distance", "carrier", "origin", "dest"]


pytestmark = pytest.mark.usefixtures("ray_cluster")


class FlightNet(nn.Module):
    """Embeddings of carrier, origin and destination beside the other numbers."""

    def __init__(self):
        super().__init__()
        self.carrier, self.origin, self.dest = nn.Embedding(16, 2), nn.Embedding(3, 1), nn.Embedding(105, 3)
        self.rest = nn.Sequential(nn.BatchNorm1d(10), nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, x):
        index = x[:, 4:].long()
        parts = [self.carrier(index[:, 0]), self.origin(index[:, 1]), self.dest(index[:, 2])]
        return self.rest(torch.cat([x[:, :4], *parts], dim=1))


def trees(**kwargs) -> XGBEstimator:
    settings = {"objective": "binary:logistic", "num_boost_round": 30, "max_depth": 5, "eta": 0.2, "random_state": 2}
    return XGBEstimator(**{**settings, "label_column": "late", "verbose": False, **kwargs})


def net(**kwargs) -> TorchEstimator:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = FlightNet()
    settings = {"loss": "BCEWithLogitsLoss", "lr": 0.01, "batch_size": 500, "num_epochs": 6, "random_state": 2}
    return TorchEstimator(model, **{**settings, "label_column": "late", "verbose": False, **kwargs})


def auc(est, frame) -> float:
    return roc_auc_score(frame["late"] == est.classes_[1], est.predict_proba(frame)[:, 1])


@pytest.fixture(scope="module")
def dataset(flights):
    """The training rows as a Ray Dataset of three blocks."""
    import ray.data

    train = flights[0]
    return ray.data.from_pandas([train[:1111], train[1111:7000], train[7000:]])


def test_one_xgboost_worker_is_xgboost(dataset, flights):
    train, test = flights
    est = trees(subsample=0.8).fit(dataset)
    params = {"objective": "binary:logistic", "max_depth": 5, "eta": 0.2, "seed": 2, "subsample": 0.8}
    label = (train["late"] == "on time").to_numpy(float)
    booster = xgboost.train(params, xgboost.DMatrix(train[FEATURES].to_numpy(), label=label), num_boost_round=30)
    expected = booster.predict(xgboost.DMatrix(test[FEATURES].to_numpy()))
    assert np.array_equal(est.predict_proba(test)[:, 1], expected)
    assert len(est.history_) == 30


def test_one_torch_worker_is_training_here(dataset, flights):
    here = net(num_epochs=2).fit(flights[0])
    there = net(num_epochs=2, num_workers=1).fit(dataset)  # on one thread, as this process has
    assert [entry["train_loss"] for entry in there.history_] == pytest.approx(
        [entry["train_loss"] for entry in here.history_], abs=1e-6
    )
    assert there.predict_proba(flights[1]) == pytest.approx(here.predict_proba(flights[1]), abs=1e-5)
    assert type(there.model_) is FlightNet


@pytest.mark.parametrize("make", [trees, net])
def test_two_workers_reach_the_auc_of_one(dataset, flights, make):
    train, test = flights
    one = make(num_workers=0, validation=0.1).fit(train)
    two = make(num_workers=2, validation=0.1).fit(dataset)
    assert auc(one, test) > (0.68 if make is trees else 0.64)
    assert auc(two, test) == pytest.approx(auc(one, test), abs=0.005)
    first, second = one.history_[-1], two.history_[-1]
    name = "logloss" if make is trees else "loss"
    assert second[f"train_{name}"] == pytest.approx(first[f"train_{name}"], abs=0.02)
    assert second[f"valid_{name}"] == pytest.approx(first[f"valid_{name}"], abs=0.02)


class Near(TrainingLoop):
    """Says whether the workers add up through shared memory."""

    def run_epoch(self):
        return {**super().run_epoch(), "near": self.workers.sums is not None}


class Spare(nn.Linear):
    """Has a layer that it does not use."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.spare = nn.Linear(3, 3)


@pytest.mark.slow
@pytest.mark.parametrize("make", [trees, net])
def test_a_worker_may_have_no_row_of_a_class(flights, make):
    train, test = flights
    ordered = train.sort_values("late").reset_index(drop=True)
    second = ordered["late"][len(ordered) // 2 :]
    assert second.nunique() == 1 < train["late"].nunique()
    two = make(num_workers=2).fit(ordered)
    assert two.classes_.tolist() == sorted(train["late"].unique())
    assert auc(two, test) > 0.62


@pytest.mark.parametrize("weighs", ["rows", "classes"])
def test_a_step_of_two_workers_is_a_step_over_all_rows(dataset, flights, weighs):
    # One batch of all rows, weighted, an odd number of them: nothing may differ but the order of additions.
    train = flights[0].iloc[:501].assign(weight=np.linspace(0.5, 1.5, 501))
    kwargs = {
        "batch_size": 1000, "num_epochs": 3, "optimizer": "sgd", "lr": 0.1, "weight_column": "weight", "validation": 0.2,
        "model": Spare(7, 1), "feature_columns": FEATURES,
    }  # fmt: skip
    if weighs == "classes":  # the mean of such a loss is divided by the weights of all workers' rows
        loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0]))
        kwargs |= {"loss": loss, "model": nn.Linear(7, 2), "weight_column": None}
    train[FEATURES] = (train[FEATURES] - train[FEATURES].mean()) / train[FEATURES].std()
    one = net(num_workers=0).set_params(**kwargs).fit(train)
    two = net(num_workers=2, loop=Near).set_params(**kwargs).fit(train)
    assert two.history_[-1]["near"] == (shared_sums.machine() is not None)
    for name in ("train_loss", "valid_loss"):
        assert [entry[name] for entry in two.history_] == pytest.approx(
            [entry[name] for entry in one.history_], abs=1e-5
        )
    assert two.predict_proba(train) == pytest.approx(one.predict_proba(train), abs=1e-5)


def test_accumulated_steps_of_lbfgs_and_metrics_are_those_over_all_rows(flights):
    train = flights[0].iloc[:400].copy()
    train[FEATURES] = (train[FEATURES] - train[FEATURES].mean()) / train[FEATURES].std()
    theirs = ["BinaryF1Score"] if find_spec("torchmetrics") else []
    kwargs = {
        "batch_size": 50, "accumulate_batches": 8, "num_epochs": 2, "optimizer": "lbfgs", "lr": 0.1, "max_grad_norm": 5.0,
        "model": nn.Linear(7, 1), "feature_columns": FEATURES, "metrics": ["roc_auc", *theirs], "lr_scheduler": "cosine",
        "scheduler_step_freq": "batch", "shuffle": False,
    }  # fmt: skip
    one = net(num_workers=0).set_params(**kwargs).fit(train)
    two = net(num_workers=2).set_params(**kwargs).fit(train)
    # The mean of the workers' own areas is another number.
    for name in ("train_loss", "train_roc_auc", *(f"train_{each}" for each in theirs)):
        assert [entry[name] for entry in two.history_] == pytest.approx(
            [entry[name] for entry in one.history_], abs=1e-4
        )
    assert two.predict_proba(train) == pytest.approx(one.predict_proba(train), abs=1e-3)


def test_fewer_rows_than_workers_train_on_fewer(flights):
    import ray.data

    row = ray.data.from_pandas(flights[0][:1].assign(late=3.0))
    with pytest.warns(UserWarning, match="1 rows, fewer than num_workers=2: training on 1 workers"):
        est = trees(objective=None, task="regression", num_workers=2, num_boost_round=1).fit(row)
    assert est.predict(flights[1][:1])[0] == pytest.approx(3.0, abs=0.5)


def test_what_cannot_work_is_said_before_workers_start(dataset):
    started = time.monotonic()
    with pytest.raises(InvalidValueError, match=r"the model fails on inputs of shape \(2, 7\)"):
        net(num_workers=2).set_params(model=nn.Linear(3, 1)).fit(dataset)
    with pytest.raises(InvalidValueError, match="3 outputs per row"):
        net(num_workers=2).set_params(model=nn.Linear(7, 3)).fit(dataset)
    with pytest.raises(InvalidValueError, match="validation"):
        net(num_workers=2, validation=0.5).fit(dataset.limit(1))
    assert time.monotonic() - started < 60


def test_workers_that_find_no_room_are_reported(dataset, monkeypatch):
    monkeypatch.setenv("RAYDP_ML_RESOURCE_TIMEOUT_S", "1")
    with pytest.raises(ResourceTimeoutError, match=r"never hold 50 training worker\(s\) at the same time") as caught:
        trees(num_workers=50).fit(dataset)
    assert isinstance(caught.value, TimeoutError) and re.search(r"CPU +1 +50 +4 +4\n", str(caught.value))
    with pytest.raises(ResourceTimeoutError, match=r"never hold 1 training worker\(s\)"):
        trees(resources_per_worker={"CPU": 999}).fit(dataset)

    until_free(4)
    held = placement_group([{"CPU": 4}])
    assert held.wait(30)
    try:
        for workers in (None, 2):
            with pytest.raises(
                ResourceTimeoutError, match=rf"no room for {workers or 1} training worker\(s\) within 1 s"
            ):
                trees(num_workers=workers).fit(dataset)
    finally:
        remove_placement_group(held)
    with pytest.raises(InvalidValueError, match="differ; give one"):
        trees(num_workers=2, scaling_config=ray.train.ScalingConfig(num_workers=3)).fit(dataset)


class Fails(Callback):
    """Raises on the second of two workers."""

    def on_epoch_end(self, training, metrics):
        if training.job.rank == 1:
            raise KeyError("not here")


class Dies(Callback):
    """Kills the last worker, once."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def on_epoch_end(self, training, metrics):
        if training.job.rank == training.job.world_size - 1 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_errors_of_a_worker_are_not_tried_again(dataset, caplog):
    with pytest.raises(RaydpMLError, match="KeyError: 'not here'"):
        net(num_workers=2, callbacks=[Fails()]).fit(dataset)
    assert "starting again" not in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_dies_is_tried_again(dataset, flights, tmp_path, caplog, workers):
    est = net(num_workers=workers, num_epochs=2, callbacks=[Dies(tmp_path / "died")]).fit(dataset)
    assert "starting again (1 of 3)" in caplog.text
    assert len(est.history_) == 2 and auc(est, flights[1]) > 0.6
    again = Dies(tmp_path / "again")
    with pytest.raises(RaydpMLError, match="a training worker died 1 times"):
        net(num_workers=workers, max_retries=0, callbacks=[again]).fit(dataset)


@pytest.mark.slow
def test_fit_on_spark_can_stop_spark_before_training(flights):
    import raydp_ml

    spark = raydp_ml.init_spark("raydp_ml-tests-stop", 1, 1, "512m")
    train, test = flights
    est = trees(num_workers=0).fit_on_spark(spark.createDataFrame(train), stop_spark_after_conversion=True)
    assert spark.sparkContext._jsc is None
    assert auc(est, test) > 0.68


@pytest.mark.slow
def test_ray_trains_own_configuration_passes_through(dataset, tmp_path):
    import ray.train

    est = trees(
        num_boost_round=3,
        scaling_config=ray.train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 2}),
        run_config=ray.train.RunConfig(name="named"),
        storage_path=str(tmp_path),
    ).fit(dataset)
    files = [path.name for path in (tmp_path / "named").rglob("model.ubj")]
    assert files == ["model.ubj"] and len(est.history_) == 3
