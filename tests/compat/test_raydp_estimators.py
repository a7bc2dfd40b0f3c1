"""RayDP's estimators: its arguments in its order, handed on to ours. Training here is in this process, on pandas frames."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from raydp_ml.errors import InvalidTypeError, InvalidValueError


@pytest.fixture(scope="module")
def plane() -> pd.DataFrame:
    points = np.random.default_rng(0).random((400, 2))
    return pd.DataFrame({"x": points[:, 0], "y": points[:, 1], "z": 3 * points[:, 0] - 2 * points[:, 1] + 1})


def defaults(function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    return {name: p.default for name, p in parameters.items() if p.kind != p.VAR_KEYWORD and name != "self"}


def test_torch_arguments() -> None:
    from raydp.torch import TorchEstimator

    assert list(defaults(TorchEstimator).items()) == [
        *(("num_workers", 1), ("resources_per_worker", None), ("model", None), ("optimizer", None), ("loss", None)),
        *(("lr_scheduler_creator", None), ("scheduler_step_freq", "batch"), ("feature_columns", None)),
        *(("feature_types", None), ("label_column", None), ("label_type", None), ("batch_size", None)),
        *(("drop_last", False), ("num_epochs", None), ("shuffle", True), ("num_processes_for_data_loader", 0)),
        *(("placement_strategy", "PACK"), ("metrics_name", None), ("metrics_config", None), ("use_ccl", False)),
    ]


def test_tf_arguments() -> None:
    from raydp.tf import TFEstimator

    assert list(defaults(TFEstimator).items()) == [
        *(("num_workers", 1), ("resources_per_worker", None), ("model", None), ("optimizer", None), ("loss", None)),
        *(("metrics", None), ("feature_columns", None), ("label_columns", None), ("merge_feature_columns", False)),
        *(("batch_size", 128), ("drop_last", False), ("num_epochs", 1), ("shuffle", True), ("callbacks", None)),
    ]
    assert defaults(TFEstimator.fit) == {"train_ds": inspect.Parameter.empty, "evaluate_ds": None, "max_retries": 0}
    assert list(defaults(TFEstimator.fit_on_spark)) == [
        *("train_df", "evaluate_df", "fs_directory", "compression", "max_retries", "stop_spark_after_conversion"),
    ]


def test_xgboost_arguments() -> None:
    from raydp.xgboost import XGBoostEstimator

    names = list(defaults(XGBoostEstimator))
    assert names[:5] == ["xgboost_params", "label_column", "num_workers", "resources_per_worker", "shuffle"]


def test_methods_of_torch_and_xgboost() -> None:
    from raydp.torch import TorchEstimator
    from raydp.xgboost import XGBoostEstimator

    for kind in (TorchEstimator, XGBoostEstimator):
        assert defaults(kind.fit) == {"train_ds": inspect.Parameter.empty, "evaluate_ds": None, "max_retries": 3}
        assert list(defaults(kind.fit_on_spark)) == [
            *("train_df", "evaluate_df", "max_retries", "fs_directory", "compression", "stop_spark_after_conversion"),
        ]


def test_xgboost_trains_ten_rounds_as_ray_does(plane: pd.DataFrame) -> None:
    import xgboost

    from raydp.xgboost import XGBoostEstimator

    adapter = XGBoostEstimator({"objective": "reg:squarederror", "max_depth": 3, "seed": 1}, "z", num_workers=0)
    booster = adapter.fit(plane, plane.head(50)).get_model()
    matrix = xgboost.QuantileDMatrix(plane[["x", "y"]].to_numpy(np.float32), label=plane["z"])
    alone = xgboost.train({"objective": "reg:squarederror", "max_depth": 3, "seed": 1}, matrix, 10)
    rows = plane[["x", "y"]].to_numpy(np.float32)
    np.testing.assert_allclose(booster.inplace_predict(rows, validate_features=False), alone.inplace_predict(rows))
    assert {"train_rmse", "valid_rmse"} <= set(adapter.estimator.history_[0])
    np.testing.assert_allclose(adapter.estimator.predict(plane), alone.inplace_predict(rows), rtol=1e-6)


def test_xgboost_without_an_objective_is_a_regression(plane: pd.DataFrame) -> None:
    from raydp.xgboost import XGBoostEstimator

    adapter = XGBoostEstimator({"max_depth": 2}, "z", num_workers=0, verbose=False).fit(plane)
    assert adapter.estimator.task == "regression"
    assert adapter.estimator.score(plane) > 0.9


def test_functions_of_the_configuration_make_model_optimizer_and_loss(plane: pd.DataFrame) -> None:
    import torch

    from raydp.torch import TorchEstimator

    schedulers: list[Any] = []

    def scheduler_creator(optimizer: Any, config: dict[str, float]) -> Any:
        schedulers.append(torch.optim.lr_scheduler.StepLR(optimizer, 1, config["decay"]))
        return schedulers[-1]

    adapter = TorchEstimator(
        num_workers=0,
        model=lambda config: torch.nn.Linear(2, 1),
        optimizer=lambda model, config: torch.optim.SGD(model.parameters(), lr=config["lr"]),
        loss=lambda config: torch.nn.MSELoss(),
        lr_scheduler_creator=scheduler_creator,
        feature_columns=["x", "y"],
        label_column="z",
        batch_size=100,
        num_epochs=5,
        config={"lr": 0.5, "decay": 0.99},
        verbose=False,
    )
    model = adapter.fit(plane).get_model()
    assert isinstance(model, torch.nn.Linear)
    # Four batches in each of five epochs: the scheduler stepped after every one of them.
    assert schedulers[-1].get_last_lr() == pytest.approx([0.5 * 0.99**20])
    losses = [epoch["train_loss"] for epoch in adapter.estimator.history_]
    assert losses[-1] < losses[0] / 4


def test_a_scheduler_may_step_by_epoch(plane: pd.DataFrame) -> None:
    import torch

    from raydp.torch import TorchEstimator

    made: list[Any] = []

    def creator(optimizer: Any, config: dict[str, Any]) -> Any:
        made.append(torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5))
        return made[-1]

    arguments = {"model": torch.nn.Linear(2, 1), "loss": torch.nn.MSELoss, "label_column": "z", "verbose": False}
    adapter = TorchEstimator(
        0, lr_scheduler_creator=creator, scheduler_step_freq="epoch", num_epochs=3, batch_size=100, **arguments
    )
    adapter.fit(plane)
    assert made[-1].last_epoch == 3
    with pytest.raises(InvalidValueError, match="scheduler_step_freq='hour'"):
        TorchEstimator(scheduler_step_freq="hour")


def test_batch_size_counts_the_rows_of_one_worker() -> None:
    from raydp.torch import TorchEstimator

    assert TorchEstimator(num_workers=3, batch_size=20)._settings["batch_size"] == 60
    assert TorchEstimator()._settings["batch_size"] == 256


def test_a_placement_strategy_goes_to_ray_train() -> None:
    from raydp.torch import TorchEstimator

    settings = TorchEstimator(2, {"CPU": 2}, batch_size=8, placement_strategy="SPREAD")._settings
    scaling = settings["scaling_config"]
    assert (scaling.num_workers, scaling.placement_strategy) == (2, "SPREAD")
    assert scaling.resources_per_worker == {"CPU": 2}
    assert settings["num_workers"] is None
    assert settings["batch_size"] == 16


def test_metrics_by_torchmetrics_names(plane: pd.DataFrame) -> None:
    import torch

    from raydp.torch import TorchEstimator

    adapter = TorchEstimator(
        num_workers=0,
        model=torch.nn.Linear(2, 1),
        loss=torch.nn.MSELoss(),
        label_column="z",
        num_epochs=1,
        metrics_name=["MeanAbsoluteError", "MeanSquaredError"],
        shuffle=False,
        verbose=False,
    )
    (epoch,) = adapter.fit(plane, plane).estimator.history_
    error = adapter.estimator.predict(plane) - plane["z"]
    assert epoch["valid_MeanAbsoluteError"] == pytest.approx(error.abs().mean(), rel=1e-4)
    assert epoch["valid_MeanSquaredError"] == pytest.approx((error**2).mean(), rel=1e-4)
    with pytest.raises(InvalidTypeError, match="metrics_name='Accuracy' must be a list"):
        TorchEstimator(metrics_name="Accuracy")


def test_other_torchmetrics_say_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from raydp.torch import TorchEstimator

    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(ImportError, match=r"'Precision' with .* needs torchmetrics"):
        TorchEstimator(metrics_name=["Precision"], metrics_config={"Precision": {"task": "binary"}})


def test_torchmetrics_are_computed_from_labels_and_probabilities() -> None:
    pytest.importorskip("torchmetrics")
    from raydp.torch.torch_metrics import metrics_of

    metrics = metrics_of(["Precision", "R2Score"], {"Precision": {"task": "binary"}})
    assert metrics is not None
    labels, scores = np.array([0, 1, 1, 0]), np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])
    assert metrics["Precision"](labels, scores) == pytest.approx(0.5)
    assert metrics["R2Score"](np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0])) == pytest.approx(0.5)


def test_arguments_without_effect_are_named_once_they_ask_for_something() -> None:
    from raydp.torch import TorchEstimator

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TorchEstimator(use_ccl=False, use_bf16=False)
    with pytest.warns(UserWarning, match="TorchEstimator ignores use_bf16"):
        TorchEstimator(use_bf16=True)
    with pytest.raises(InvalidValueError, match="use_ccl=True asks for oneCCL"):
        TorchEstimator(use_ccl=True)


def test_the_model_of_an_unfitted_estimator_is_an_error() -> None:
    import torch
    from sklearn.exceptions import NotFittedError

    from raydp.torch import TorchEstimator

    with pytest.raises(NotFittedError):
        TorchEstimator(model=torch.nn.Linear(1, 1), loss=torch.nn.MSELoss()).get_model()


def test_keras_models_with_one_input_get_the_features_as_a_matrix(plane: pd.DataFrame) -> None:
    keras = pytest.importorskip("keras")
    from raydp.tf import TFEstimator

    for model in (
        keras.Sequential([keras.layers.Dense(1)]),
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]),
    ):
        adapter = TFEstimator(
            num_workers=0,
            model=model,
            optimizer=keras.optimizers.SGD(0.3),
            loss="mse",
            feature_columns=["x", "y"],
            label_column="z",
            batch_size=20,
            num_epochs=8,
            verbose=False,
        )
        slopes, intercept = adapter.fit(plane).get_model().get_weights()
        np.testing.assert_allclose(slopes[:, 0], [3, -2], atol=0.2)
        np.testing.assert_allclose(intercept, [1], atol=0.2)
