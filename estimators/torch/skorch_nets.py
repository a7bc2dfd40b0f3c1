"""skorch's nets: what they say is taken over into TorchEstimator's parameters, and a fitted estimator becomes a net.

What a net has and TorchEstimator does not do is refused by its name, so that nothing is left out silently.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import clone

from raydp_ml.errors import InvalidTypeError, InvalidValueError, require
from raydp_ml.estimators.callbacks import EarlyStopping
from raydp_ml.estimators.torch.losses import build_loss

__all__ = ["NetParameters", "is_net", "make_net", "module_of", "parameters_of", "split_rows"]

# Parameters of TorchEstimator that stand in the net, and there alone.
_IN_NET = (
    *("loss", "model_params", "optimizer", "lr", "lr_scheduler", "scheduler_step_freq", "scheduler_monitor"),
    *("max_grad_norm", "compile", "batch_size", "num_epochs", "shuffle", "drop_last", "early_stopping", "task"),
)
# Callbacks that show or note what the history of the estimator has.
_SHOWN_ANYWAY = ("EpochTimer", "PrintLog", "ProgressBar", "PassthroughScoring", "BatchScoring")
_BATCH_ALL = 2**31
# What skorch's loss adds to probabilities before it takes their logarithm, in float32.
_EPS = float(np.finfo(np.float32).eps)


@dataclass
class NetParameters:
    """What a net says in TorchEstimator's words.

    ``split`` divides arrays into rows to train and rows to validate on, as the net does; ``fraction`` is how many it holds out;
    ``classes`` are those that the net names.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    split: Any = None
    fraction: float | None = None
    classes: Any = None


class ProbabilityNLLLoss:
    """The loss of skorch's classifiers for ``NLLLoss``: their modules give probabilities, and not logarithms of them.

    Parameters
    ----------
    loss : torch.nn.NLLLoss
        The criterion.
    """

    def __init__(self, loss: Any) -> None:
        self.loss = loss
        self.reduction, self.weight, self.ignore_index = loss.reduction, loss.weight, loss.ignore_index

    def __call__(self, probabilities: Any, labels: Any) -> Any:
        """The mean loss of rows."""
        self.loss.reduction = self.reduction
        return self.loss((probabilities + _EPS).log(), labels)


def is_net(model: Any) -> bool:
    """Whether something is a skorch net; asked without importing skorch."""
    return any(base.__module__.partition(".")[0] == "skorch" for base in type(model).__mro__)


def module_of(net: Any) -> tuple[Any, dict[str, Any] | None]:
    """The parameters ``model`` and ``model_params`` that a net's module stands for.

    Examples
    --------
    >>> import skorch, torch
    >>> module_of(skorch.NeuralNet(torch.nn.Linear, torch.nn.MSELoss, module__in_features=2, module__out_features=1))[1]
    {'in_features': 2, 'out_features': 1}
    """
    arguments = net.get_params_for("module")
    if isinstance(net.module, require("torch", "torch").nn.Module):
        return (type(net.module), arguments) if arguments else (net.module, None)
    return net.module, arguments or None


def parameters_of(net: Any, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> NetParameters:
    """Take over what a net says.

    Parameters
    ----------
    net : skorch.NeuralNet
        The net, fitted or not; it stays as it is.
    given : mapping
        TorchEstimator's parameters.
    defaults : mapping
        Their defaults.

    Raises
    ------
    InvalidValueError
        For a parameter that stands in both, and for what the net asks that TorchEstimator does not do.
    """
    twice = [name for name in _IN_NET if given[name] is not defaults[name] and given[name] != defaults[name]]
    if twice:
        raise InvalidValueError(
            f"{', '.join(twice)} and the skorch net given as model contradict each other: set them on the net, for example "
            "with set_params(model__lr=0.1)"
        )
    _refuse_the_rest(net)
    found = NetParameters()
    model, model_params = module_of(net)
    settings = found.settings
    settings.update(model=model, model_params=model_params, **_training(net))
    if type(net).__name__ == "NeuralNet" or given["metrics"] is not None:
        metrics = {} if given["metrics"] is None else given["metrics"]
    else:
        metrics = {"acc": "accuracy"} if settings["task"] == "classification" else {}
    settings["metrics"] = metrics
    settings["use_gpu"] = bool(given["use_gpu"]) or str(net.device).startswith("cuda")
    settings["warm_start"] = bool(given["warm_start"]) or bool(net.warm_start)
    settings["verbose"] = bool(given["verbose"]) and bool(net.verbose)
    for callback in _callbacks_of(net):
        _take_callback(callback, settings)
    if given["validation"] is None and net.train_split is not None:
        found.split = net.train_split
        found.fraction = _fraction_of(net.train_split)
    found.classes = getattr(net, "classes", None)
    return found


def _refuse_the_rest(net: Any) -> None:
    torch = require("torch", "torch")
    loader = torch.utils.data.DataLoader
    own = [name for name in ("iterator_train", "iterator_valid") if net.get_params(deep=False)[name] is not loader]
    if own:
        raise InvalidValueError(
            f"the net's {', '.join(own)} is a class of its own; only torch's DataLoader is taken, for its arguments"
        )
    known = {"shuffle", "batch_size", "drop_last"}
    for name in ("iterator_train", "iterator_valid"):
        unknown = [
            f"{name}__{key}" for key in net.get_params_for(name) if key not in (*known, "num_workers", "pin_memory")
        ]
        if unknown:
            raise InvalidValueError(f"the net has {', '.join(unknown)}, which TorchEstimator does not have")
    dataset = net.dataset
    if dataset is not require("skorch.dataset", "skorch").Dataset or net.get_params_for("dataset"):
        raise InvalidValueError(
            f"the net's dataset is {dataset!r}; TorchEstimator reads the rows itself: only skorch's own is taken"
        )
    if net.predict_nonlinearity != "auto":
        raise InvalidValueError(
            f"the net has predict_nonlinearity={net.predict_nonlinearity!r}; only 'auto' is taken: let the module apply it"
        )
    if getattr(net, "threshold", 0.5) != 0.5:
        raise InvalidValueError(f"the net has threshold={net.threshold!r}; TorchEstimator predicts the likeliest class")
    if str(net.device) not in ("cpu", "None") and not str(net.device).startswith("cuda"):
        raise InvalidValueError(f"the net has device={net.device!r}; 'cpu' and 'cuda' are taken")


def _training(net: Any) -> dict[str, Any]:
    """Loss, optimizer and batches."""
    torch = require("torch", "torch")
    optimizer = net.get_params_for("optimizer")
    if "param_groups" in optimizer:
        raise InvalidValueError(
            "the net has optimizer__param_groups; give a function of the parameters that makes the groups as its optimizer"
        )
    loss = net.criterion
    if isinstance(loss, type):
        loss = loss(**net.get_params_for("criterion"))
    names = [base.__name__ for base in type(net).__mro__]
    classifies = "NeuralNetClassifier" in names or "NeuralNetBinaryClassifier" in names
    if "NeuralNetClassifier" in names and isinstance(loss, torch.nn.NLLLoss):
        loss = ProbabilityNLLLoss(loss)
    train = net.get_params_for("iterator_train")
    size = train.get("batch_size", net.batch_size)
    compiled = dict(net.get_params_for("compile")) if net.compile else None
    return {
        "loss": loss,
        "task": "classification" if classifies else "regression" if "NeuralNetRegressor" in names else None,
        "optimizer": partial(net.optimizer, lr=net.lr, **optimizer),
        "num_epochs": net.max_epochs,
        "batch_size": _BATCH_ALL if size == -1 else size,
        "shuffle": bool(train.get("shuffle", False)),
        "drop_last": bool(train.get("drop_last", False)),
        "compile": compiled or bool(net.compile),
    }


def _callbacks_of(net: Any) -> list[Any]:
    callbacks = net.callbacks
    if callbacks is None or callbacks == "disable":
        return []
    named = [item[-1] if isinstance(item, tuple) else item for item in callbacks]
    return [item() if isinstance(item, type) else item for item in named]


def _take_callback(callback: Any, settings: dict[str, Any]) -> None:
    """Take over a callback of skorch's."""
    name = type(callback).__name__
    if name in _SHOWN_ANYWAY:
        return
    if name == "EarlyStopping":
        settings["early_stopping"] = SkorchStopping(
            patience=callback.patience,
            monitor=callback.monitor,
            threshold=callback.threshold,
            relative=callback.threshold_mode == "rel",
            mode="min" if callback.lower_is_better else "max",
            restore_best=callback.load_best,
        )
    elif name == "LRScheduler":
        policy = callback.policy
        if isinstance(policy, str):
            policy = getattr(require("skorch.callbacks.lr_scheduler", "skorch"), policy)
        own = ("policy", "monitor", "event_name", "step_every")
        arguments = {key: value for key, value in callback.get_params(deep=False).items() if key not in own}
        settings["lr_scheduler"] = partial(policy, **arguments)
        settings["scheduler_step_freq"] = callback.step_every
        if policy.__name__ == "ReduceLROnPlateau":
            settings["scheduler_monitor"] = callback.monitor
    elif name == "GradientNormClipping" and callback.gradient_clip_norm_type == 2:
        settings["max_grad_norm"] = callback.gradient_clip_value
    elif name == "EpochScoring" and (isinstance(callback.scoring, str)):
        label = (callback.name or callback.scoring).removeprefix("valid_").removeprefix("train_")
        settings["metrics"] = {**settings["metrics"], label: callback.scoring}
    else:
        raise InvalidValueError(
            f"the net has the callback {callback!r}, which TorchEstimator does not know; write it as a raydp_ml.Callback"
        )


class SkorchStopping(EarlyStopping):
    """Stops when skorch's EarlyStopping would: better means better by a part of the best value, or by an amount.

    Parameters
    ----------
    threshold : float
        That part or amount.
    relative : bool
        Whether it is a part.
    **others
        As for EarlyStopping.
    """

    def __init__(self, threshold: float = 1e-4, relative: bool = True, **others: Any) -> None:
        super().__init__(**others)
        self.threshold, self.relative = threshold, relative

    def is_better(self, value: float, best: float) -> bool:
        """Whether a value is better than the best before; both are such that less is better."""
        if not np.isfinite(best):
            return value < best
        return value < best - (abs(best) * self.threshold if self.relative else self.threshold)


def _fraction_of(split: Any) -> float:
    """Which part of the rows a net holds out."""
    cv = getattr(split, "cv", None)
    if isinstance(cv, int) and not isinstance(cv, bool) and cv > 1:
        return 1 / cv
    return cv if isinstance(cv, float) else 0.2


def split_rows(split: Any, X: Any, y: Any) -> tuple[Any, Any, tuple[Any, Any]]:
    """The rows to train on, their labels, and what to validate on, of arrays, as a net divides them.

    Parameters
    ----------
    split : callable
        The net's ``train_split``.
    X, y : numpy.ndarray
        The rows.
    """
    dataset = require("skorch.dataset", "skorch").Dataset(X, y)
    train, valid = split(dataset, y)
    if valid is None:
        raise InvalidValueError("the net's train_split holds out no rows; set train_split=None")
    if not hasattr(valid, "indices"):  # rows of its own, from predefined_split
        if not hasattr(valid, "X"):
            raise InvalidTypeError(f"the net's train_split gives a {type(valid).__name__}, whose rows cannot be read")
        return X, y, (valid.X, np.asarray(valid.y))
    return X[train.indices], y[train.indices], (X[valid.indices], y[valid.indices])


def make_net(estimator: Any, module: Any, kind: str | None, task: str, optimizer_state: Any) -> Any:
    """A fitted net.

    Parameters
    ----------
    estimator : TorchEstimator
        Fitted.
    module : torch.nn.Module
        Its model, of which the net gets a copy.
    kind : str or None
        What its loss expects.
    task : str
        What it learnt.
    optimizer_state : dict or None
        What its optimizer has gathered.
    """
    skorch = require("skorch", "skorch")
    classes = getattr(estimator, "classes_", None)
    given = is_net(estimator.model)
    net = clone(estimator.model) if given else _net_for(skorch, estimator, module, kind, task)
    net.initialize()
    net.module_.load_state_dict(module.state_dict())
    if optimizer_state is not None and len(optimizer_state["param_groups"]) == len(net.optimizer_.param_groups):
        net.optimizer_.load_state_dict(optimizer_state)
    if task == "classification" and isinstance(net, skorch.NeuralNetClassifier):
        net.classes_inferred_ = classes
    for entry in estimator.history_:
        net.history_.new_epoch()
        net.history_.record("dur", entry["seconds"])
        for name, value in entry.items():
            if name != "seconds":
                net.history_.record(name, value)
    return net


def _net_for(skorch: Any, estimator: Any, module: Any, kind: str | None, task: str) -> Any:
    torch = require("torch", "torch")

    optimizer = estimator.optimizer
    if isinstance(optimizer, str):
        optimizer = next(value for key, value in vars(torch.optim).items() if key.lower() == optimizer.lower())
    arguments = {}
    if isinstance(optimizer, torch.optim.Optimizer):
        accepted = set(optimizer.defaults)
        arguments = {
            f"optimizer__{key}": value for key, value in optimizer.defaults.items() if key in accepted and key != "lr"
        }
        optimizer = type(optimizer)
    about = {
        "module": copy.deepcopy(module),
        "optimizer": optimizer,
        "lr": estimator.lr,
        "batch_size": estimator.batch_size,
        "max_epochs": estimator.num_epochs,
        "iterator_train__shuffle": bool(estimator.shuffle),
        "iterator_train__drop_last": bool(estimator.drop_last),
        "train_split": None,
        "verbose": int(bool(estimator.verbose)),
        **arguments,
    }
    if task == "regression":
        return skorch.NeuralNetRegressor(criterion=build_loss(estimator.loss), **about)
    if task != "classification":  # for several labels, and for predictions of one's own, skorch has no class
        return skorch.NeuralNet(criterion=build_loss(estimator.loss), **about)
    if kind in ("binary_logit", "binary_probability"):
        return skorch.NeuralNetBinaryClassifier(criterion=build_loss(estimator.loss), **about)
    if kind in ("logits", "log_probabilities"):
        # Of logarithms of probabilities, softmax is the probabilities and cross entropy the negative log likelihood.
        loss = build_loss(estimator.loss) if kind == "logits" else torch.nn.CrossEntropyLoss()
        loss = loss if isinstance(loss, torch.nn.Module) else torch.nn.CrossEntropyLoss()
        return skorch.NeuralNetClassifier(criterion=loss, classes=estimator.classes_, **about)
    return skorch.NeuralNet(criterion=estimator.loss, **about)
