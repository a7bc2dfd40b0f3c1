"""TorchEstimator in this process: the loop that one would write by hand, with every parameter at work."""

from __future__ import annotations

import copy
import io

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone, is_classifier, is_regressor
from torch import nn

import raydp_ml
from raydp_ml import InvalidTypeError, InvalidValueError, TorchEstimator
from raydp_ml.estimators.callbacks import Callback, EarlyStopping

FEATURES = list("abcd")


def mlp(outputs: int = 1, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, outputs))


def net(model=None, **kwargs) -> TorchEstimator:
    settings = {"loss": "MSELoss", "lr": 0.01, "num_epochs": 4, "batch_size": 50, "random_state": 5, "verbose": False}
    return TorchEstimator(mlp() if model is None else model, **{**settings, **kwargs})


def by_hand(model, loss, X, y, *, make=None, epochs=4, batch=50, seed=5, shuffle=True, after_epoch=None):
    """A plain training loop; returns the model and the mean loss of each epoch."""
    model = copy.deepcopy(model)
    optimizer = (make or (lambda parameters: torch.optim.Adam(parameters, lr=0.01)))(model.parameters())
    scheduler = after_epoch(optimizer) if after_epoch else None
    order = torch.Generator().manual_seed(seed)
    X, y, losses = torch.from_numpy(X), torch.from_numpy(y), []
    for _ in range(epochs):
        rows = torch.randperm(len(X), generator=order) if shuffle else torch.arange(len(X))
        total = 0.0
        for start in range(0, len(X), batch):
            part = rows[start : start + batch]
            optimizer.zero_grad()
            value = loss(model(X[part]), y[part])
            value.backward()
            optimizer.step()
            total += value.item() * len(part)
        losses.append(total / len(X))
        if scheduler is not None:
            scheduler.step()
    return model, losses


def losses(est, side="train"):
    return [entry[f"{side}_loss"] for entry in est.history_]


@pytest.fixture
def X(small):
    return small[FEATURES].to_numpy()


@pytest.fixture
def amount(small):
    return small["amount"].to_numpy().astype(np.float32)


@pytest.mark.parametrize("shuffle", [True, False])
def test_binary_training_is_the_loop_by_hand(small, X, shuffle):
    labels = small["label"].to_numpy()
    module, expected = by_hand(
        mlp(), nn.BCEWithLogitsLoss(), X, (labels == "yes").astype(np.float32)[:, None], shuffle=shuffle
    )
    est = net(loss=nn.BCEWithLogitsLoss(), shuffle=shuffle).fit(X, labels)
    assert losses(est) == pytest.approx(expected, abs=1e-6)
    probability = torch.sigmoid(module(torch.from_numpy(X)))[:, 0].detach().numpy()
    assert est.predict_proba(X)[:, 1] == pytest.approx(probability, abs=1e-5)
    assert est.classes_.tolist() == ["no", "yes"]
    assert np.array_equal(est.predict(X), np.where(est.predict_proba(X)[:, 1] > 0.5, "yes", "no"))


def test_regression_is_the_loop_by_hand(X, amount):
    module, expected = by_hand(mlp(), nn.HuberLoss(), X, amount[:, None])
    est = net(loss="huber").fit(X, amount)
    assert losses(est) == pytest.approx(expected, abs=1e-6)
    assert est.predict(X) == pytest.approx(module(torch.from_numpy(X))[:, 0].detach().numpy(), abs=1e-5)
    assert est.predict(X).dtype == np.float64


@pytest.mark.parametrize(
    ("loss", "last", "outputs"),
    [
        ("CrossEntropyLoss", None, 3),
        (nn.functional.cross_entropy, None, 3),
        (nn.NLLLoss, nn.LogSoftmax(dim=1), 3),
    ],
)
def test_losses_of_several_classes(X, amount, loss, last, outputs):
    labels = np.digitize(amount, [-1.0, 1.0]) * 5
    model = mlp(outputs) if last is None else nn.Sequential(mlp(outputs), last)
    plain = loss() if isinstance(loss, type) else nn.CrossEntropyLoss()
    _, expected = by_hand(model, plain, X, labels // 5)
    est = net(model, loss=loss).fit(X, labels)
    assert losses(est) == pytest.approx(expected, abs=1e-6)
    assert est.predict_proba(X).sum(axis=1) == pytest.approx(1.0)
    assert set(est.predict(X)) <= {0, 5, 10}


def test_bce_on_probabilities_and_outputs_without_second_axis(small, X):
    labels = small["label"].to_numpy()
    one = net(nn.Sequential(mlp(), nn.Sigmoid()), loss="BCELoss").fit(X, labels)
    flat = net(nn.Sequential(mlp(), nn.Flatten(0)), loss="BCEWithLogitsLoss").fit(X, labels)
    assert losses(one) == pytest.approx(losses(flat), abs=1e-4)
    assert one.predict_proba(X) == pytest.approx(flat.predict_proba(X), abs=1e-3)


def test_own_loss_needs_a_task(small, X):
    def focal(outputs, y):
        p = torch.sigmoid(outputs)
        return -(y * (1 - p) ** 2 * torch.log(p) + (1 - y) * p**2 * torch.log(1 - p)).mean()

    with pytest.raises(InvalidValueError, match="cannot tell its task"):
        net(loss=focal).fit(X, small["label"])
    est = net(loss=focal, task="classification", lr=0.05, num_epochs=20).fit(X, small["label"])
    assert est.score(X, small["label"]) > 0.85
    with pytest.raises(InvalidValueError, match="one number for a batch"):
        net(loss=focal, task="classification").fit(X, small["label"], sample_weight=np.ones(600))


def test_users_objects_are_left_alone(X, amount):
    model = mlp()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    X_before, state = X.copy(), torch.get_rng_state()
    est = net(model, optimizer=optimizer).fit(X, amount)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert est.model is model and est.model_ is not model
    assert np.array_equal(X, X_before) and torch.equal(state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_that_changes_its_input_does_not_change_the_data(X, amount):
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp()

        def forward(self, x):
            x.mul_(2.0)
            return self.inner(x)

    before = X.copy()
    est = net(InPlace, shuffle=False).fit(X, amount)
    est.predict(X)
    assert np.array_equal(X, before)


@pytest.mark.parametrize("form", ["name", "class", "function", "object", "groups"])
def test_optimizer_in_every_form(X, amount, form):
    model = mlp()
    given = {
        "name": lambda: "rmsprop",
        "class": lambda: torch.optim.RMSprop,
        "function": lambda: lambda parameters: torch.optim.RMSprop(parameters, lr=0.01),
        "object": lambda: torch.optim.RMSprop(model.parameters(), lr=0.01),
        "groups": lambda: torch.optim.RMSprop(
            [
                {"params": model[0].parameters(), "lr": 0.01},
                {"params": model[2].parameters(), "lr": 0.0},
            ]
        ),
    }[form]()

    def make(parameters):
        first, second = list(parameters)[:2], list(parameters)[2:]
        return torch.optim.RMSprop(
            [
                {"params": first, "lr": 0.01},
                {"params": second, "lr": 0.0 if form == "groups" else 0.01},
            ]
        )

    _, expected = by_hand(model, nn.MSELoss(), X, amount[:, None], make=lambda it: make(list(it)))
    assert losses(net(model, optimizer=given).fit(X, amount)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("form", ["function", "object"])
def test_scheduler_steps_after_each_epoch(X, amount, form):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def halve(optimizer):
        return torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)

    _, expected = by_hand(
        model, nn.MSELoss(), X, amount[:, None], make=lambda it: torch.optim.SGD(it, lr=0.05), after_epoch=halve
    )
    given = halve if form == "function" else halve(optimizer)
    est = net(model, optimizer=optimizer, lr_scheduler=given).fit(X, amount)
    assert losses(est) == pytest.approx(expected, abs=1e-6)
    assert optimizer.param_groups[0]["lr"] == 0.05


def test_plateau_and_cosine_schedules(X, amount):
    seen = []

    class Watch(Callback):
        def on_epoch_end(self, training, metrics):
            seen.append(training.optimizer.param_groups[0]["lr"])

    net(lr_scheduler="cosine", callbacks=[Watch()]).fit(X, amount)
    assert seen[-1] == pytest.approx(0.0, abs=1e-9) and seen[0] < 0.01
    seen.clear()

    def plateau(optimizer):
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=10.0, threshold_mode="abs")

    net(lr_scheduler=plateau, callbacks=[Watch()]).fit(X, amount)
    assert seen == pytest.approx([0.01, 1e-3, 1e-4, 1e-5])


def test_sample_weights_are_those_of_a_weighted_mean(X, amount):
    weight = np.linspace(0.0, 2.0, len(X)).astype(np.float32)
    model, weights = mlp(), torch.from_numpy(weight)
    trained = copy.deepcopy(model)
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.01)
    expected = []
    for _ in range(4):
        optimizer.zero_grad()
        rows = (trained(torch.from_numpy(X))[:, 0] - torch.from_numpy(amount)) ** 2
        value = (rows * weights).sum() / weights.sum()
        value.backward()
        optimizer.step()
        expected.append(value.item())
    est = net(model, optimizer="sgd", batch_size=1000).fit(X, amount, sample_weight=weight)
    assert losses(est) == pytest.approx(expected, abs=1e-5)


def test_class_weight_is_a_weight_of_rows(small, X):
    labels = small["label"].to_numpy()
    by_class = net(loss="BCEWithLogitsLoss", class_weight={"yes": 3.0}).fit(X, labels)
    by_row = net(loss="BCEWithLogitsLoss").fit(X, labels, sample_weight=np.where(labels == "yes", 3.0, 1.0))
    assert losses(by_class) == pytest.approx(losses(by_row), abs=1e-6)


def test_several_label_columns(small):
    frame = small[[*FEATURES, "amount"]].assign(double=small["amount"] * 2)
    est = net(mlp(2), label_column=["amount", "double"], lr=0.05, num_epochs=20).fit(frame)
    assert est.predict(frame).shape == (600, 2) and est.score(frame) > 0.95


class Embedded(nn.Module):
    """Takes a matrix and, apart from it, a column of indices."""

    def __init__(self, kinds: int = 10):
        super().__init__()
        self.kinds = nn.Embedding(kinds, 2)
        self.last = nn.Linear(3, 1)

    def forward(self, x, kind):
        return self.last(torch.cat([x, self.kinds(kind)], dim=1))[:, 0]


class Sliced(Embedded):
    """The same model on one matrix."""

    def forward(self, x):
        return super().forward(x[:, 1:], x[:, 0].long())


def test_index_columns_reach_embeddings_in_both_ways():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"kind": rng.integers(0, 10, 400).astype(float), "size": rng.normal(size=400)})
    frame["price"] = frame["kind"] ** 2 / 10 + frame["size"]
    kwargs = {"label_column": "price", "lr": 0.05, "num_epochs": 30}
    named = net(Embedded, feature_types={"kind": torch.long}, **kwargs).fit(frame)
    sliced = net(Sliced, **kwargs).fit(frame)
    assert losses(named) == pytest.approx(losses(sliced), abs=1e-6)
    assert named.score(frame) > 0.95
    assert named.predict(frame) == pytest.approx(sliced.predict(frame), abs=1e-5)


def test_feature_types_of_the_matrix(X, amount):
    seen = []

    class Look(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp().double()

        def forward(self, x):
            seen.append(x.dtype)
            return self.inner(x.double())

    net(Look, feature_types=torch.float64, num_epochs=1).fit(X, amount)
    net(Look, feature_types=[torch.long, torch.long, torch.long, torch.float64], num_epochs=1).fit(X, amount)
    net(Look, feature_types=["long"] * 4, num_epochs=1).fit(X, amount)
    assert set(seen) == {torch.float64, torch.int64} and seen[-1] == torch.int64
    with pytest.raises(InvalidValueError, match="3 types for 4 feature columns"):
        net(Look, feature_types=[torch.long] * 3).fit(X, amount)
    with pytest.raises(InvalidValueError, match=r"\['zz'\]"):
        net(Look, feature_types={"zz": torch.long}).fit(X, amount)


def test_early_stopping_goes_back_to_the_best_epoch(X, amount):
    rng = np.random.default_rng(1)
    noise = rng.normal(size=len(X)).astype(np.float32)
    est = net(num_epochs=200, lr=0.1, validation=(X[:200], noise[:200]), early_stopping=3).fit(X[200:], noise[200:])
    valid = losses(est, "valid")
    best = int(np.argmin(valid))
    assert len(valid) == best + 1 + 3 < 200
    assert np.mean((est.predict(X[:200]) - noise[:200]) ** 2) == pytest.approx(valid[best], rel=1e-5)
    with pytest.raises(InvalidValueError, match="monitor='auc'"):
        net(early_stopping=EarlyStopping(monitor="auc")).fit(X, amount)
    with pytest.raises(InvalidTypeError, match="early_stopping='soon'"):
        net(early_stopping="soon").fit(X, amount)


def test_metrics_by_name_and_function(small, X):
    labels = small["label"].to_numpy()

    def share_of_yes(y, probabilities):
        return float(y.mean())

    named = ["accuracy", "auc", "log_loss", share_of_yes]
    est = net(loss="CrossEntropyLoss", model=mlp(2), metrics=named, validation=(X, labels))
    est.fit(X, labels)
    last, found = est.history_[-1], est.evaluate(X, labels)
    assert last["valid_accuracy"] == pytest.approx(est.score(X, labels))
    assert last["valid_auc"] == pytest.approx(found["roc_auc"])
    assert last["valid_log_loss"] == pytest.approx(found["log_loss"])
    assert last["train_share_of_yes"] == pytest.approx((labels == "yes").mean())
    with pytest.raises(InvalidValueError, match="'f7' is not one of"):
        net(metrics=["f7"]).fit(X, labels)


def test_metrics_of_a_regression_are_those_of_evaluate(X, amount):
    named = ["r2", "root_mean_squared_error", "mean_absolute_error"]
    est = net(loss="mse", metrics=named, validation=(X, amount)).fit(X, amount)
    found = est.evaluate(X, amount)
    assert [est.history_[-1][f"valid_{name}"] for name in named] == pytest.approx([found[name] for name in named])


def test_callbacks_see_and_stop_training(X, amount):
    class Halt(Callback):
        def on_train_begin(self, training):
            self.seen = [type(training.module).__name__]

        def on_epoch_end(self, training, metrics):
            self.seen.append(metrics["epoch"])
            training.stop = metrics["epoch"] == 2

        def on_train_end(self, training):
            self.seen.append("end")

    halt = Halt()
    est = net(callbacks=[halt]).fit(X, amount)
    assert halt.seen == ["Sequential", 1, 2, "end"] and len(est.history_) == 2
    with pytest.raises(InvalidTypeError, match="callbacks"):
        net(callbacks=[print]).fit(X, amount)


def test_drop_last_leaves_out_partial_batches(X, amount):
    full = net(batch_size=400, shuffle=False, num_epochs=1, optimizer="sgd", lr=0.01).fit(X[:400], amount[:400])
    dropped = net(batch_size=400, shuffle=False, num_epochs=1, optimizer="sgd", lr=0.01, drop_last=True).fit(X, amount)
    assert losses(full) == losses(dropped)
    with pytest.raises(InvalidValueError, match="larger than the 600"):
        net(batch_size=700, drop_last=True).fit(X, amount)


def test_seed_decides_everything(X, amount):
    def make(n_features, n_outputs):
        return nn.Sequential(nn.Linear(n_features, 8), nn.Dropout(0.5), nn.Linear(8, n_outputs))

    first, second = net(make).fit(X, amount), net(make).fit(X, amount)
    other = net(make, random_state=6).fit(X, amount)
    assert losses(first) == losses(second) != losses(other)


def test_lazy_layers_learn_their_size(X, amount):
    est = net(lambda: nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(1))).fit(X, amount)
    assert est.model_[0].weight.shape == (8, 4)


def test_warm_start_and_partial_fit_go_on(X, amount):
    whole = net(shuffle=False, num_epochs=4).fit(X, amount)
    parts = net(shuffle=False, num_epochs=2, warm_start=True).fit(X, amount).fit(X, amount)
    assert losses(parts) == pytest.approx(losses(whole)[2:], abs=1e-6)
    partial = net(shuffle=False, num_epochs=2).partial_fit(X, amount).partial_fit(X, amount)
    assert losses(partial) == losses(parts)
    fresh = net(shuffle=False, num_epochs=2).fit(X, amount).fit(X, amount)
    assert losses(fresh) == pytest.approx(losses(whole)[:2], abs=1e-6)


def test_clone_joblib_and_directory_round_trips(small, X, tmp_path):
    labels = small["label"].to_numpy()
    est = net(loss="BCEWithLogitsLoss", weight_column=None).fit(X, labels)
    copied = clone(est)
    assert not copied.__sklearn_is_fitted__() and copied.get_params()["lr"] == 0.01
    file = io.BytesIO()
    joblib.dump(est, file)
    file.seek(0)
    est.save(tmp_path / "model")
    for again in (joblib.load(file), raydp_ml.load(tmp_path / "model"), TorchEstimator.load(tmp_path / "model")):
        assert np.array_equal(again.predict_proba(X), est.predict_proba(X))
        assert again.history_ == est.history_
    with pytest.raises(InvalidTypeError, match="TorchEstimator"):
        raydp_ml.XGBEstimator.load(tmp_path / "model")


def test_task_follows_the_loss():
    assert is_classifier(net(loss=nn.BCEWithLogitsLoss())) and is_classifier(net(loss=nn.CrossEntropyLoss))
    assert is_regressor(net(loss="mse")) and not hasattr(net(loss="mse"), "predict_proba")


def test_rows_with_null_features_get_null_predictions(small, amount):
    frame = small[[*FEATURES, "amount"]].copy()
    frame.loc[::10, "a"] = np.nan
    whole = frame.dropna()
    est = net(label_column="amount", null_features="null").fit(frame)
    assert losses(est) == losses(net(label_column="amount").fit(whole))
    predicted = est.predict(frame)
    assert np.isnan(predicted[::10]).all()
    assert predicted[~np.isnan(predicted)] == pytest.approx(est.predict(whole))
    assert est.score(frame) == pytest.approx(est.score(whole))
    with pytest.raises(InvalidValueError, match="60 of 600"):
        net(label_column="amount").fit(frame)


def test_wrong_models_and_settings_are_named(small, X, amount):
    labels = small["label"].to_numpy()
    other = mlp(seed=1)
    for make, error, message in [
        (lambda: net(mlp(3), loss="BCEWithLogitsLoss").fit(X, labels), InvalidValueError, "3 outputs per row"),
        (lambda: net(mlp(3), loss="CrossEntropyLoss").fit(X, labels), InvalidValueError, "each of the 2 classes"),
        (lambda: net(mlp(2)).fit(X, amount), InvalidValueError, r"\(50, 2\)"),
        (lambda: net(loss="BCEWithLogitsLoss").fit(X, np.arange(600) % 3), InvalidValueError, "2 classes, but .* 3"),
        (lambda: net(5).fit(X, amount), InvalidTypeError, "model=5"),
        (lambda: net(lambda: 5).fit(X, amount), InvalidTypeError, "made a int"),
        (lambda: net(loss="NoLoss", task="regression").fit(X, amount), InvalidValueError, "'NoLoss' is not a loss"),
        (lambda: net(optimizer="adamm").fit(X, amount), InvalidValueError, "'adamm' is not an optimizer"),
        (
            lambda: net(optimizer=torch.optim.SGD(other.parameters(), lr=1)).fit(X, amount),
            InvalidValueError,
            "not the model's",
        ),
        (lambda: net(lr=0).fit(X, amount), InvalidValueError, "lr=0"),
        (lambda: net(batch_size=0).fit(X, amount), InvalidValueError, "batch_size=0"),
        (lambda: net(num_epochs=1.5).fit(X, amount), InvalidTypeError, "num_epochs=1.5"),
        (lambda: net(task="classification").fit(X, amount), InvalidValueError, "contradict"),
        (lambda: net(lr_scheduler="weekly").fit(X, amount), InvalidTypeError, "lr_scheduler='weekly'"),
        (lambda: net(use_gpu=True).fit(X, amount), InvalidValueError, "no GPU"),
    ]:
        if message == "no GPU" and torch.cuda.is_available():
            continue
        with pytest.raises(error, match=message):
            make()
