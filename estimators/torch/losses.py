"""What a loss tells: the task, what it expects of outputs and labels, and how outputs become probabilities.

Nothing here imports torch before a loss is built or used.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from raydp_ml.errors import InvalidTypeError, InvalidValueError, require
from raydp_ml.estimators.tasks import MULTILABEL, predicts_probabilities
from raydp_ml.estimators.torch.reductions import Reduction, reduction_of

__all__ = ["ModelOutput", "RowLoss", "build_loss", "kind_of", "takes_several_labels", "task_of_loss", "to_predictions"]

# The parameter ``model_output``: a place, a key, or a function of what ``forward`` gives.
ModelOutput: TypeAlias = int | str | Callable[[Any], Any] | None

# Spellings of losses, without "loss" and underscores, by what they expect.
_KINDS = {
    "binary_logit": ("bcewithlogits", "binarycrossentropywithlogits", "multilabelsoftmargin"),
    "binary_probability": ("bce", "binarycrossentropy"),
    "logits": ("crossentropy", "ce"),
    "log_probabilities": ("nll",),
    "probabilities": ("probabilitynll",),  # skorch's
    "values": ("mse", "l1", "mae", "smoothl1", "huber"),
}
_CLASS_OF_NAME = {
    "bcewithlogits": "BCEWithLogitsLoss",
    "binarycrossentropywithlogits": "BCEWithLogitsLoss",
    "bce": "BCELoss",
    "binarycrossentropy": "BCELoss",
    "crossentropy": "CrossEntropyLoss",
    "ce": "CrossEntropyLoss",
    "multilabelsoftmargin": "MultiLabelSoftMarginLoss",
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


def takes_several_labels(loss: Any) -> bool:
    """Whether a loss compares each output with a label of its own that is 0 or 1, so that a row may have several.

    Examples
    --------
    >>> takes_several_labels("BCEWithLogitsLoss"), takes_several_labels("CrossEntropyLoss")
    (True, False)
    """
    return kind_of(loss) in ("binary_logit", "binary_probability")


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

    A loss of torch.nn is given the prediction and the labels. A function or class of the user is given all that the model's
    ``forward`` gives, and, where it has a third argument, what ``forward`` was given: a tensor, a dict of named inputs, or both
    as a tuple.

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
    model_output : int, str or callable, optional
        Which of the model's outputs is the prediction. A function is for predictions alone: the loss is given what ``forward``
        gives.
    """

    def __init__(
        self,
        loss: Callable[..., Any],
        kind: str | None,
        classes: int | None,
        label_type: Any,
        model_output: ModelOutput = None,
    ) -> None:
        self.loss, self.kind, self.classes, self.label_type = loss, kind, classes, label_type
        self.model_output = model_output
        self._of_torch = kind is not None or type(loss).__module__.startswith("torch.nn")
        self._takes_inputs = not self._of_torch and _has_third_argument(loss)
        self._looked = False
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

    def __call__(self, outputs: Any, y: Any, inputs: Any = None) -> Any:
        """The loss as it is."""
        arguments = self.arguments(outputs, y, inputs)
        value = self._computed(self.loss, arguments)
        return value if value.ndim == 0 else value.mean()

    def weighted(self, outputs: Any, y: Any, weight: Any, inputs: Any = None) -> tuple[Any, Any]:
        """The sum over rows of weight times loss, and what it is divided by where the loss is a mean.

        Raises
        ------
        InvalidValueError
            When the rows of a batch cannot be told apart in what the loss gives: weights of 1 would not be the loss itself.
        """
        import torch

        arguments = self.arguments(outputs, y, inputs)
        rows = self._computed(self.reduction.rows, arguments)
        if not self._checked:
            with torch.no_grad():
                plain = self.loss(*arguments)
            self.reduction.check(rows.detach(), arguments[1], plain if plain.ndim == 0 else plain.mean())
            self._checked = True
        return (rows * weight).sum(), self.counted(y, weight)

    def counted(self, y: Any, weight: Any = None) -> Any:
        """What a mean over rows is divided by: the sum of their weights, or of those of their classes."""
        import torch

        weight = torch.ones(len(y), device=y.device) if weight is None else weight
        return self.reduction.counted(y.to(torch.int64) if self.reduction.by_class else y, weight).sum()

    def _computed(self, loss: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """A loss; torch looks at the outputs of each batch, we at those of the first, and say what is wrong where torch refuses."""
        try:
            return loss(*arguments)
        except RuntimeError:
            if self.kind == "binary_probability" and self._of_torch:
                _check_probabilities(arguments[0])
            raise

    def arguments(self, outputs: Any, y: Any, inputs: Any = None) -> tuple[Any, ...]:
        """What the loss is called with.

        Raises
        ------
        InvalidValueError
            When the loss cannot compare such outputs with such labels.
        """
        compared = self._compared(outputs)
        target = self._usual_target(y) if compared is None else self._target(compared, y)
        if self._of_torch:
            return compared, target
        return (outputs, target, inputs) if self._takes_inputs else (outputs, target)

    def prediction(self, outputs: Any) -> Any:
        """The prediction among what the model gave."""
        from raydp_ml.estimators.torch.models import prediction_of

        return prediction_of(outputs, self.model_output)

    def _compared(self, outputs: Any) -> Any:
        """The tensor that labels are compared with; None where only a loss of the user knows which one that is."""
        from raydp_ml.estimators.torch.models import prediction_of

        if not callable(self.model_output):
            return prediction_of(outputs, self.model_output)
        return prediction_of(outputs, None) if self._of_torch else None

    def _usual_target(self, y: Any) -> Any:
        import torch

        return y.to(self.label_type or (torch.float32 if self.classes is None else torch.int64))

    def _target(self, outputs: Any, y: Any) -> Any:
        """The labels in the type and shape that the loss compares with the outputs."""
        import torch

        kind = self.kind
        if kind is None and self.classes is not None:
            kind = "binary_logit" if outputs.ndim == 1 or outputs.shape[1] == 1 else "logits"
        if kind in ("logits", "log_probabilities", "probabilities"):
            if self.classes is None:  # labels that are class numbers already, where predictions are of the user's own
                return y.to(self.label_type or torch.int64)
            if outputs.ndim < 2 or outputs.shape[1] != self.classes:
                got = 1 if outputs.ndim < 2 else outputs.shape[1]
                raise InvalidValueError(
                    f"the model gives {got} output(s) per row, but the loss needs one for each of the {self.classes} classes"
                )
            if kind == "log_probabilities" and not self._looked:
                _check_log_probabilities(outputs)
            self._looked = True
            return y.to(self.label_type or torch.int64)
        if kind in ("binary_logit", "binary_probability"):
            if self.classes is not None and self.classes > 2:
                raise InvalidValueError(
                    f"the loss is for 2 classes, but the label has {self.classes}; use CrossEntropyLoss"
                )
            if outputs.numel() != y.numel():
                got, wanted = (
                    outputs.numel() // max(len(y), 1),
                    "one" if y.ndim == 1 else f"one for each of {y.shape[1]} labels",
                )
                raise InvalidValueError(f"the model gives {got} outputs per row, but the loss needs {wanted}")
            if kind == "binary_probability" and not self._looked:
                _check_probabilities(outputs)
            self._looked = True
        target = y.to(self.label_type or outputs.dtype)
        if target.numel() != outputs.numel():
            if not self._of_torch:
                return target
            raise InvalidValueError(
                f"the model gives outputs of shape {tuple(outputs.shape)} for labels of shape {tuple(y.shape)}; they must agree"
            )
        return target.reshape(outputs.shape)


def _has_third_argument(loss: Callable[..., Any]) -> bool:
    """Whether a loss of the user wants what the model was given, besides outputs and targets."""
    parameters = inspect.signature(loss.forward if hasattr(loss, "forward") else loss).parameters
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [
        item for item in parameters.values() if item.kind in positional and item.default is inspect.Parameter.empty
    ]
    return len(needed) == 3 or list(parameters)[2:3] == ["inputs"]


def _check_log_probabilities(outputs: Any) -> None:
    """Raise where the outputs of the first rows are no logarithms of probabilities, which this loss takes them for."""
    sums = outputs.detach().double().exp().sum(dim=1)
    wrong = (sums - 1).abs() > 0.1
    if wrong.any():
        raise InvalidValueError(
            "the loss expects the logarithms of probabilities, but the exponentials of the model's outputs add up to "
            f"{float(sums[wrong][0]):.3g} in a row instead of 1: let the model end in torch.nn.LogSoftmax(dim=1), or use "
            "CrossEntropyLoss"
        )


def _check_probabilities(outputs: Any) -> None:
    """Raise where outputs are no probabilities, which this loss takes them for."""
    wrong = ~((outputs >= 0) & (outputs <= 1) | outputs.isnan())  # a model that diverged has other errors
    if wrong.any():
        raise InvalidValueError(
            "the loss expects probabilities, but the model gives values outside 0 to 1, such as "
            f"{float(outputs.detach()[wrong][0]):.3g}: let the model end in torch.nn.Sigmoid(), or use BCEWithLogitsLoss"
        )


def to_predictions(outputs: Any, kind: str | None, task: str) -> np.ndarray:
    """Outputs as probabilities of each class or label, or as values."""
    import torch

    outputs = outputs.detach().to("cpu", torch.float64)
    if outputs.ndim == 2 and outputs.shape[1] == 1:
        outputs = outputs[:, 0]
    if not predicts_probabilities(task):
        return outputs.numpy()
    if task == MULTILABEL:
        return (outputs if kind == "binary_probability" else torch.sigmoid(outputs)).numpy()
    if outputs.ndim == 1:
        positive = outputs if kind == "binary_probability" else torch.sigmoid(outputs)
        return torch.stack([1.0 - positive, positive], dim=1).numpy()
    if kind == "probabilities":
        return outputs.numpy()
    return (outputs.exp() if kind == "log_probabilities" else torch.softmax(outputs, dim=1)).numpy()
