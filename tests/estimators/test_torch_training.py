"""How TorchEstimator trains: optimizers, schedules, gradients and precision, each beside a loop that is written by hand."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from torch import nn
from torch.optim import lr_scheduler

import raydp_ml
from raydp_ml import Callback, InvalidTypeError, InvalidValueError, TorchEstimator
from raydp_ml.estimators.torch import TrainingLoop

RNG = np.random.default_rng(0)
X = RNG.normal(size=(230, 4)).astype(np.float32)
Y = (np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2]).astype(np.float32)


def mlp(norm: bool = False) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8) if norm else nn.Identity(), nn.Tanh(), nn.Linear(8, 1))


def net(model: Any = None, **settings: Any) -> TorchEstimator:
    given = {"loss": "mse", "lr": 0.01, "num_epochs": 3, "batch_size": 50, "shuffle": False, "verbose": False}
    return TorchEstimator(mlp() if model is None else model, **{**given, **settings})


def batches(size: int = 50) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for start in range(0, len(X), size):
        yield torch.from_numpy(X[start : start + size]), torch.from_numpy(Y[start : start + size, None])


def outputs(module: nn.Module) -> np.ndarray:
    with torch.no_grad():
        return module.eval()(torch.from_numpy(X)).numpy().ravel()


def by_hand(
    optimizer: Callable[[nn.Sequential], torch.optim.Optimizer],
    scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
    after: str = "epoch",
    clip: Callable[[nn.Module], Any] | None = None,
    size: int = 50,
    epochs: int = 3,
    forward: Callable[[nn.Module, torch.Tensor], torch.Tensor] | None = None,
) -> np.ndarray:
    """The predictions of a plain loop."""
    model = mlp()
    steps = optimizer(model)
    schedule = None if scheduler is None else scheduler(steps)
    for _ in range(epochs):
        for rows, labels in batches(size):
            steps.zero_grad()
            found = model(rows) if forward is None else forward(model, rows)
            nn.functional.mse_loss(found, labels).backward()
            if clip is not None:
                clip(model)
            steps.step()
            if schedule is not None and after == "batch":
                schedule.step()
        if schedule is not None and after == "epoch":
            schedule.step()
    return outputs(model)


def close(est: TorchEstimator, expected: np.ndarray) -> None:
    np.testing.assert_allclose(est.predict(X), expected, rtol=1e-4, atol=1e-5)


def adam(model: nn.Sequential) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=0.01)


def groups(model: nn.Sequential) -> torch.optim.Optimizer:
    """Two learning rates, and moments of a step that was made before."""
    made = torch.optim.SGD(
        [{"params": model[0].parameters(), "lr": 0.05}, {"params": model[3].parameters(), "momentum": 0.9}], lr=0.01
    )
    before = copy.deepcopy(model.state_dict())
    (1000 * model(torch.ones(2, 4)).sum()).backward()
    made.step()
    model.load_state_dict(before)
    made.zero_grad()
    return made


# -- optimizers that are objects ---------------------------------------------------------------------------------------


def with_groups(**settings: Any) -> TorchEstimator:
    model = mlp()
    return net(model, optimizer=groups(model), **settings)


@pytest.mark.parametrize("way", ["given", "clone", "clone of a clone", "pickle", "save"])
def test_an_optimizer_keeps_groups_rates_and_state_on_every_way(way: str, tmp_path: Path) -> None:
    est = with_groups()
    if way.startswith("clone"):
        est = clone(clone(est)) if "of" in way else clone(est)
    elif way == "pickle":
        est = pickle.loads(pickle.dumps(est))
    elif way == "save":
        est.save(tmp_path / "unfitted")
        est = raydp_ml.load(tmp_path / "unfitted")
    expected = by_hand(groups)
    close(est.fit(X, Y), expected)
    assert np.abs(expected - by_hand(lambda model: torch.optim.SGD(model.parameters(), lr=0.01))).max() > 0.01
    close(est.fit(X, Y), expected)


def test_scikit_learns_tools_take_an_optimizer() -> None:
    scores = cross_val_score(with_groups(), X, Y, cv=2)
    plain = [with_groups().fit(X[part], Y[part]).score(X[~part], Y[~part]) for part in (np.arange(230) >= 115,)]
    assert scores[0] == pytest.approx(plain[0], abs=1e-5)
    search = GridSearchCV(with_groups(), {"num_epochs": [1, 3]}, cv=2).fit(X, Y)
    assert search.best_estimator_.optimizer.param_groups[1]["momentum"] == 0.9


def test_a_copy_whose_parameters_cannot_be_told_apart_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False), nn.Linear(4, 1))
    nn.init.ones_(model[0].weight), nn.init.ones_(model[1].weight)
    parts = [{"params": part.parameters(), "lr": 1e-3 * (number + 1)} for number, part in enumerate(model)]
    est = net(model, optimizer=torch.optim.SGD(parts)).fit(X, Y)
    with pytest.raises(
        InvalidValueError, match=r"the parameters 0\.weight and 1\.weight of the model have equal values"
    ):
        clone(est).fit(X, Y)
    alike = net(model, optimizer=torch.optim.SGD(model.parameters(), lr=1e-3))
    np.testing.assert_allclose(clone(alike).fit(X, Y).predict(X), alike.fit(X, Y).predict(X))


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs_is_lbfgs(search: str | None) -> None:
    model = mlp()
    make = functools.partial(torch.optim.LBFGS, lr=0.2, max_iter=5, line_search_fn=search)
    optimizer = make(model.parameters())
    for _ in range(3):
        for rows, labels in batches(115):

            def closure(rows: Any = rows, labels: Any = labels) -> torch.Tensor:
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(model(rows), labels)
                loss.backward()
                return loss

            optimizer.step(closure)
    by_creator = net(optimizer=make, batch_size=115).fit(X, Y)
    close(by_creator, outputs(model))
    other = mlp()
    close(clone(net(other, optimizer=make(other.parameters()), batch_size=115)).fit(X, Y), outputs(model))
    # The rows of a step may come in several batches, which are looked at again together.
    if search is None:  # a line search makes much of the last digit
        close(net(optimizer=make, batch_size=23, accumulate_batches=5).fit(X, Y), outputs(model))


# -- schedules ---------------------------------------------------------------------------------------------------------


def warm_then_decay(optimizer: torch.optim.Optimizer) -> Any:
    parts = [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=2), lr_scheduler.ExponentialLR(optimizer, 0.7)]
    return lr_scheduler.SequentialLR(optimizer, parts, milestones=[2])


@pytest.mark.parametrize("after", ["epoch", "batch"])
@pytest.mark.parametrize("form", ["name", "class", "creator", "object", "clone of an object", "save"])
def test_schedulers_in_every_form(form: str, after: str, tmp_path: Path) -> None:
    steps = 3 if after == "epoch" else 15

    def cosine(optimizer: torch.optim.Optimizer) -> Any:
        return lr_scheduler.CosineAnnealingLR(optimizer, steps)

    model = mlp()
    optimizer = adam(model)
    given = {"name": "CosineAnnealingLR", "class": lr_scheduler.CosineAnnealingLR, "creator": cosine}.get(form)
    est = net(model, optimizer=optimizer, lr_scheduler=given or cosine(optimizer), scheduler_step_freq=after)
    if form == "clone of an object":
        est = clone(est)
    if form == "save":
        est.save(tmp_path / "unfitted")
        est = raydp_ml.load(tmp_path / "unfitted")
    close(est.fit(X, Y), by_hand(adam, cosine, after))
    assert optimizer.param_groups[0]["lr"] == 0.01


def test_a_schedule_of_schedules_and_one_cycle() -> None:
    model = mlp()
    optimizer = adam(model)
    est = net(model, optimizer=optimizer, lr_scheduler=warm_then_decay(optimizer), num_epochs=5)
    close(est.fit(X, Y), by_hand(adam, warm_then_decay, epochs=5))
    once = net(lr_scheduler="onecyclelr", scheduler_step_freq="batch").fit(X, Y)
    close(once, by_hand(adam, lambda steps: lr_scheduler.OneCycleLR(steps, 0.01, total_steps=15), "batch"))


class Rates(Callback):
    """Notes the learning rate of each epoch."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_epoch_end(self, training: TrainingLoop, metrics: Any) -> None:
        self.seen.append(training.optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize(("monitor", "last"), [("train_mae", 0.01), ("valid_r", 1e-4), (None, 0.01)])
def test_plateau_looks_at_the_metric_that_is_named(monitor: str | None, last: float) -> None:
    plateau = functools.partial(lr_scheduler.ReduceLROnPlateau, patience=0)
    rates = Rates()
    metrics = {"mae": "mean_absolute_error", "r": lambda y, predicted: 1.0}  # which does not get better
    net(
        lr_scheduler=plateau, scheduler_monitor=monitor, metrics=metrics, validation=0.2, random_state=0,
        num_epochs=3, callbacks=[rates],
    ).fit(X, Y)  # fmt: skip
    assert rates.seen[-1] == pytest.approx(last)


# -- gradients ---------------------------------------------------------------------------------------------------------


def test_gradients_are_clipped_as_torch_does() -> None:
    norm = by_hand(adam, clip=lambda model: nn.utils.clip_grad_norm_(model.parameters(), 0.1))
    sgd = functools.partial(torch.optim.SGD, lr=0.1)
    close(net(max_grad_norm=0.1).fit(X, Y), norm)
    value = by_hand(
        lambda model: sgd(model.parameters()), clip=lambda m: nn.utils.clip_grad_value_(m.parameters(), 0.02)
    )
    close(net(optimizer=sgd, max_grad_value=0.02).fit(X, Y), value)
    assert np.abs(value - by_hand(lambda model: sgd(model.parameters()))).max() > 0.01


@pytest.mark.parametrize("weighted", [False, True])
def test_accumulated_batches_are_one_batch(weighted: bool) -> None:
    weight = np.linspace(0.1, 2, len(X)) if weighted else None
    whole = net(batch_size=100, scheduler_step_freq="batch", lr_scheduler="cosine").fit(X, Y, weight)
    parts = net(batch_size=25, accumulate_batches=4, scheduler_step_freq="batch", lr_scheduler="cosine").fit(
        X, Y, weight
    )
    close(parts, whole.predict(X))
    assert [each["train_loss"] for each in parts.history_] == pytest.approx(
        [each["train_loss"] for each in whole.history_], abs=1e-6
    )


def test_bf16_is_torchs_autocast() -> None:
    def forward(model: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            found = model(rows)
        assert found.dtype == torch.bfloat16
        return found.float()

    est = net(precision="bf16").fit(X, Y)
    close(est, by_hand(adam, forward=forward))
    assert np.abs(est.predict(X) - by_hand(adam)).max() > 1e-4
    assert est.model_[0].weight.dtype == torch.float32


def test_fp16_scales_the_loss_and_leaves_out_steps_that_overflow() -> None:
    model, scaler = mlp(), torch.amp.GradScaler("cpu")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        for rows, labels in batches():
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.float16):
                found = model(rows)
            scaler.scale(nn.functional.mse_loss(found.float(), labels)).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update()
    est = net(precision="fp16", optimizer=functools.partial(torch.optim.SGD, lr=0.1), max_grad_norm=0.5).fit(X, Y)
    close(est, outputs(model))
    with pytest.raises(InvalidValueError, match="LBFGS does not allow"):
        net(precision="fp16", optimizer="lbfgs").fit(X, Y)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
def test_a_gpu_trains_and_predicts_as_the_cpu_does(precision: str) -> None:
    est = net(use_gpu=True, precision=precision, shuffle=True, random_state=0, validation=0.2).fit(X, Y)
    here = net(shuffle=True, random_state=0, validation=0.2).fit(X, Y)
    np.testing.assert_allclose(est.predict(X), here.predict(X), atol=1e-3 if precision == "float32" else 0.05)
    assert next(est.model_.parameters()).device.type == "cpu"
    kept = est._learnt.fitted.optimizer_state["state"]  # read where there may be no GPU
    assert {value.device.type for each in kept.values() for value in each.values()} == {"cpu"}


def test_a_compiled_model_is_what_trains_and_not_what_is_kept() -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    est = net(compile={"backend": backend}).fit(X, Y)
    close(est, by_hand(adam))
    assert graphs and type(est.model_) is nn.Sequential
    with pytest.raises(InvalidTypeError, match="compile='yes' must be True, False or a dict"):
        net(compile="yes").fit(X, Y)


# -- the loop ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [201, 1])
def test_a_last_batch_of_one_row_is_no_end_for_batch_norm(rows: int) -> None:
    # Not Adam, which makes much of the last digit of a gradient that is zero: that of the bias before a normalisation.
    sgd = functools.partial(torch.optim.SGD, lr=0.1)
    est = net(mlp(norm=True), optimizer=sgd).fit(X[:rows], Y[:rows])
    assert len(est.history_) == 3 and np.isfinite(est.predict(X)).all()
    if rows > 1:  # the last row joins the batch before
        plain = mlp(norm=True)
        optimizer = sgd(plain.parameters())
        for _ in range(3):
            for start, stop in ((0, 50), (50, 100), (100, 150), (150, 201)):
                optimizer.zero_grad()
                rows_, labels = torch.from_numpy(X[start:stop]), torch.from_numpy(Y[start:stop, None])
                nn.functional.mse_loss(plain(rows_), labels).backward()
                optimizer.step()
        close(est, outputs(plain))


class Hooks(Callback):
    """Notes each hook as it is called."""

    def __init__(self, name: str, seen: list[Any]) -> None:
        self.name, self.seen = name, seen

    def on_train_begin(self, training: TrainingLoop) -> None:
        self.seen.append((self.name, "begin", torch.get_num_threads()))

    def on_epoch_begin(self, training: TrainingLoop, epoch: int) -> None:
        self.seen.append((self.name, "epoch", epoch))

    def on_batch_begin(self, training: TrainingLoop, batch: int) -> None:
        self.seen.append((self.name, "batch", batch))

    def on_batch_end(self, training: TrainingLoop, batch: int, loss: torch.Tensor) -> None:
        self.seen.append((self.name, "loss", float(loss)))

    def on_epoch_end(self, training: TrainingLoop, metrics: Any) -> None:
        self.seen.append((self.name, "metrics", metrics["train_loss"]))

    def on_train_end(self, training: TrainingLoop) -> None:
        self.seen.append((self.name, "end", training.scheduler))


def test_hooks_are_called_in_order_and_threads_are_given_back() -> None:
    seen: list[Any] = []
    before = torch.get_num_threads()
    net(callbacks=[Hooks("a", seen), Hooks("b", seen)], num_epochs=1, batch_size=115, threads=before + 2).fit(X, Y)
    assert torch.get_num_threads() == before
    whats = ["begin", "epoch", "batch", "loss", "batch", "loss", "metrics", "end"]
    assert [(name, what) for name, what, _ in seen] == [(name, what) for what in whats for name in "ab"]
    first = {what: value for name, what, value in seen if name == "a"}
    assert (first["begin"], first["epoch"], first["batch"], first["end"]) == (before + 2, 1, 1, None)
    losses = [value for name, what, value in seen if (name, what) == ("a", "loss")]
    assert first["metrics"] == pytest.approx(np.mean(losses))


class Unrolled(TrainingLoop):
    """Overrides each part of the story."""

    calls: tuple[str, ...] = ()

    def fit(self) -> TrainingLoop:
        Unrolled.calls = ("fit",)
        return super().fit()

    def fit_loop(self) -> None:
        Unrolled.calls += ("fit_loop",)
        super().fit_loop()

    def run_epoch(self) -> dict[str, float]:
        Unrolled.calls += ("run_epoch",)
        return {**super().run_epoch(), "rate": self.optimizer.param_groups[0]["lr"]}

    def train_step(self, batches: Any, tally: Any) -> torch.Tensor:
        Unrolled.calls += ("train_step",)
        return super().train_step(batches, tally)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(2 * x)


def test_a_loop_of_ones_own_overrides_each_part() -> None:
    est = net(loop=Unrolled, num_epochs=1, batch_size=115).fit(X, Y)
    assert Unrolled.calls == ("fit", "fit_loop", "run_epoch", "train_step", "train_step")
    assert est.history_[0]["rate"] == 0.01
    plain = net(num_epochs=1, batch_size=115).fit(2 * X, Y)
    np.testing.assert_allclose(est.predict(2 * X), plain.predict(2 * X))


def test_settings_that_no_training_can_use_are_named() -> None:
    for settings, error, message in [
        ({"max_grad_norm": 0}, InvalidValueError, "max_grad_norm=0 must be a number above 0"),
        ({"accumulate_batches": 0}, InvalidValueError, "accumulate_batches=0 must be at least 1"),
        ({"threads": 1.5}, InvalidTypeError, r"threads=1\.5 must be a whole number"),
        ({"precision": "int8"}, InvalidValueError, "precision='int8' must be one of 'float32', 'bf16', 'fp16'"),
        ({"scheduler_step_freq": "hour"}, InvalidValueError, "scheduler_step_freq='hour' must be one of"),
        ({"loop": Rates}, InvalidTypeError, "must be a subclass of .*TrainingLoop"),
        ({"lr_scheduler": "StepLR"}, InvalidValueError, r"'StepLR' needs step_size: .*functools.partial"),
        ({"lr_scheduler": "weekly"}, InvalidTypeError, "lr_scheduler='weekly' is not 'cosine' nor a class"),
        (
            {"lr_scheduler": lr_scheduler.ExponentialLR(adam(mlp()), 1)},
            InvalidValueError,
            "the very object that it was",
        ),
        ({"lr_scheduler": "cosine", "scheduler_monitor": "x"}, InvalidValueError, "is for ReduceLROnPlateau only"),
        (
            {"lr_scheduler": "reducelronplateau", "scheduler_step_freq": "batch"},
            InvalidValueError,
            "set scheduler_step_freq='epoch'",
        ),
        (
            {"lr_scheduler": "reducelronplateau", "scheduler_monitor": "x"},
            InvalidValueError,
            "'x' is not among the metrics",
        ),
    ]:
        with pytest.raises(error, match=message):
            net(**settings).fit(X, Y)
