"""What a loss tells: the task, what it expects of outputs and labels, and how outputs become probabilities.

Nothing here imports torch before a loss is built or used.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from raydp_ml.errors import InvalidTypeError, InvalidValueError, require
from raydp_ml.estimators.torch.reductions import Reduction, reduction_of

__all__ = ["RowLoss", "build_loss", "kind_of", "task_of_loss", "to_predictions"]

# Spellings of losses, without "loss" and underscores, by what they expect.
_KINDS = {
    "binary_logit": ("bcewithlogits", "binarycrossentropywithlogits"),
    "binary_probability": ("bce", "binarycrossentropy"),
    "logits": ("crossentropy", "ce"),
    "log_probabilities": ("nll",),
    "values": ("mse", "l1", "mae", "smoothl1", "huber"),
}
_CLASS_OF_NAME = {
    "bcewithlogits": "BCEWithLogitsLoss",
    "binarycrossentropywithlogits": "BCEWithLogitsLoss",
    "bce": "BCELoss",
    "binarycrossentropy": "BCELoss",
    "crossentropy": "CrossEntropyLoss",
    "ce": "CrossEntropyLoss",
    "nll": "NLLLoss",
    "mse": "MSELoss",
    "l1": "L1Loss",
    "mae": "L1Loss",
    "smoothl1": "SmoothL1Loss",
    "huber": "HuberLoss",
}


def _spelling(name: str) -> str:
    return name.replace("_", "").lower().removesuffix("loss")


def kind_of(loss: Any) -> str | None:
    """What a loss (a name, a class, an object or a function) expects of the model's outputs; None when it is not known.

    Examples
    --------
    >>> kind_of("bce_with_logits"), kind_of("MSELoss"), kind_of("my_loss")
    ('binary_logit', 'values', None)
    """
    if isinstance(loss, str):
        names = [loss]
    elif isinstance(loss, type):
        names = [base.__name__ for base in loss.__mro__]
    else:
        names = [getattr(loss, "__name__", ""), *(base.__name__ for base in type(loss).__mro__)]
    for name in map(_spelling, names):
        for kind, spellings in _KINDS.items():
            if name in spellings:
                return kind
    return None


def task_of_loss(loss: Any) -> str | None:
    """The task that a loss implies.

    Examples
    --------
    >>> task_of_loss("CrossEntropyLoss"), task_of_loss("huber_loss"), task_of_loss(None)
    ('classification', 'regression', None)
    """
    kind = kind_of(loss)
    return None if kind is None else "regression" if kind == "values" else "classification"


def build_loss(loss: Any) -> Callable[[Any, Any], Any]:
    """A loss as something to call with outputs and targets.

    Parameters
    ----------
    loss : str, class, torch.nn.Module or callable
        ``"mse"``, ``"BCEWithLogitsLoss"``, ``torch.nn.MSELoss``, an object, or a function of outputs and targets.
    """
    nn = require("torch", "torch").nn
    if isinstance(loss, str):
        name = _CLASS_OF_NAME.get(_spelling(loss), loss)
        found = getattr(nn, name, None)
        if not isinstance(found, type) or not issubclass(found, nn.Module):
            raise InvalidValueError(
                f"loss={loss!r} is not a loss of torch.nn; use for example 'BCEWithLogitsLoss', 'CrossEntropyLoss' or 'MSELoss'"
            )
        return found()
    if isinstance(loss, type):
        return loss()
    if isinstance(loss, nn.Module):
        return copy.deepcopy(loss)
    if callable(loss):
        return loss
    raise InvalidTypeError(f"loss={loss!r} must be a name, a class, an object or a function of outputs and targets")


class RowLoss:
    """A loss applied to a batch, as one number: as the loss itself reduces it, or weighted by rows.

    Parameters
    ----------
    loss : callable
        What :func:`build_loss` made.
    kind : str or None
        What it expects.
    classes : int or None
        Number of classes.
    label_type : torch.dtype, optional
        Type of the targets, where it is not the usual one.
    """

    def __init__(self, loss: Callable[[Any, Any], Any], kind: str | None, classes: int | None, label_type: Any) -> None:
        self.loss, self.kind, self.classes, self.label_type = loss, kind, classes, label_type
        self._reduction: Reduction | None = None
        self._checked = False

    @property
    def reduction(self) -> Reduction:
        """How the loss makes one number of a batch."""
        if self._reduction is None:
            self._reduction = reduction_of(self.loss)
        return self._reduction

    @property
    def sums(self) -> bool:
        """Whether the loss adds up the rows of a batch instead of averaging."""
        return self.reduction.how == "sum"

    def __call__(self, outputs: Any, y: Any) -> Any:
        """The loss as it is."""
        value = self.loss(outputs, self.target(outputs, y))
        return value if value.ndim == 0 else value.mean()

    def weighted(self, outputs: Any, y: Any, weight: Any) -> tuple[Any, Any]:
        """The sum over rows of weight times loss, and what it is divided by where the loss is a mean.

        Raises
        ------
        InvalidValueError
            When the rows of a batch cannot be told apart in what the loss gives: weights of 1 would not be the loss itself.
        """
        reduction, target = self.reduction, self.target(outputs, y)
        rows = reduction.rows(outputs, target)
        counted = reduction.counted(target, weight)
        if not self._checked:
            plain = self.loss(outputs.detach(), target)
            reduction.check(rows.detach(), target, plain if plain.ndim == 0 else plain.mean())
            self._checked = True
        return (rows * weight).sum(), counted.sum()

    def counted(self, outputs: Any, y: Any) -> float:
        """What the loss of a batch without weights was divided by: its rows, or the weights of their classes."""
        import torch

        return float(self.reduction.counted(self.target(outputs, y), torch.ones(len(y), device=outputs.device)).sum())

    def target(self, outputs: Any, y: Any) -> Any:
        """The labels in the type and shape that the loss compares with the outputs."""
        import torch

        kind = self.kind
        if kind is None and self.classes is not None:
            kind = "binary_logit" if outputs.ndim == 1 or outputs.shape[1] == 1 else "logits"
        if kind in ("logits", "log_probabilities"):
            if outputs.ndim < 2 or outputs.shape[1] != self.classes:
                got = 1 if outputs.ndim < 2 else outputs.shape[1]
                raise InvalidValueError(
                    f"the model gives {got} output(s) per row, but the loss needs one for each of the {self.classes} classes"
                )
            return y.to(self.label_type or torch.int64)
        if kind in ("binary_logit", "binary_probability"):
            if self.classes is not None and self.classes > 2:
                raise InvalidValueError(
                    f"the loss is for 2 classes, but the label has {self.classes}; use CrossEntropyLoss"
                )
            if outputs.numel() != len(y):
                raise InvalidValueError(
                    f"the model gives {outputs.numel() // max(len(y), 1)} outputs per row, but the loss needs one"
                )
        target = y.to(self.label_type or outputs.dtype)
        if target.numel() != outputs.numel():
            raise InvalidValueError(
                f"the model gives outputs of shape {tuple(outputs.shape)} for labels of shape {tuple(y.shape)}; they must agree"
            )
        return target.reshape(outputs.shape)


def to_predictions(outputs: Any, kind: str | None, task: str) -> np.ndarray:
    """Outputs as probabilities of each class, or as values."""
    import torch

    outputs = outputs.detach().to("cpu", torch.float64)
    if outputs.ndim == 2 and outputs.shape[1] == 1:
        outputs = outputs[:, 0]
    if task != "classification":
        return outputs.numpy()
    if outputs.ndim == 1:
        positive = outputs if kind == "binary_probability" else torch.sigmoid(outputs)
        return torch.stack([1.0 - positive, positive], dim=1).numpy()
    return (outputs.exp() if kind == "log_probabilities" else torch.softmax(outputs, dim=1)).numpy()
