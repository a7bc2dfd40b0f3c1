"""Callbacks of TorchEstimator: small classes with hooks, called on every worker."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from raydp_ml.errors import InvalidTypeError, InvalidValueError

if TYPE_CHECKING:
    from raydp_ml.estimators.torch.loop import Training

__all__ = ["Callback", "EarlyStopping", "early_stopping_of"]


class Callback:
    """Base of callbacks; override the hooks that you need.

    Hooks run on every worker and see the same metrics on all of them, which are those of all workers together. Setting
    ``training.stop = True`` ends training after the epoch; do it on all workers alike.

    Examples
    --------
    >>> class Halt(Callback):
    ...     def on_epoch_end(self, training, metrics):
    ...         training.stop = metrics["train_loss"] < 0.1
    """

    def on_train_begin(self, training: Training) -> None:
        """Model and optimizer are made, nothing is trained yet."""

    def on_epoch_end(self, training: Training, metrics: Mapping[str, float]) -> None:
        """An epoch ended with these metrics."""

    def on_train_end(self, training: Training) -> None:
        """The last epoch ended."""


class EarlyStopping(Callback):
    """Stop when a metric has not improved for some epochs, and go back to the weights of the best one.

    Parameters
    ----------
    patience : int, default=5
        Epochs without improvement that are borne.
    monitor : str, optional
        The metric; None: ``valid_loss``, or ``train_loss`` when nothing is held out.
    min_delta : float, default=0.0
        How much better counts as better.
    mode : {"min", "max"}, default="min"
        Whether less or more is better.
    restore_best : bool, default=True
        Whether to go back to the best weights.

    Examples
    --------
    >>> EarlyStopping(patience=2).patience
    2
    """

    def __init__(
        self,
        patience: int = 5,
        monitor: str | None = None,
        min_delta: float = 0.0,
        mode: str = "min",
        restore_best: bool = True,
    ) -> None:
        if mode not in ("min", "max"):
            raise InvalidValueError(f"mode={mode!r} of EarlyStopping must be 'min' or 'max'")
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
            raise InvalidValueError(f"patience={patience!r} of EarlyStopping must be a whole number of at least 1")
        self.patience = patience
        self.monitor = monitor
        self.min_delta = min_delta
        self.mode = mode
        self.restore_best = restore_best

    def on_train_begin(self, training: Training) -> None:
        """Forget earlier trainings."""
        self._best = float("inf")
        self._waited = 0
        self._weights: Any = None

    def on_epoch_end(self, training: Training, metrics: Mapping[str, float]) -> None:
        """Compare with the best epoch."""
        name = self.monitor or ("valid_loss" if "valid_loss" in metrics else "train_loss")
        if name not in metrics:
            known = ", ".join(key for key in metrics if key != "epoch")
            raise InvalidValueError(f"monitor={name!r} of EarlyStopping is not among the metrics: {known}")
        value = metrics[name] if self.mode == "min" else -metrics[name]
        if value < self._best - self.min_delta:
            self._best, self._waited = value, 0
            if self.restore_best:
                self._weights = copy.deepcopy(training.module.state_dict())
            return
        self._waited += 1
        training.stop = training.stop or self._waited >= self.patience

    def on_train_end(self, training: Training) -> None:
        """Go back to the best weights."""
        if self._weights is not None:
            training.module.load_state_dict(self._weights)
            self._weights = None


def early_stopping_of(value: Any) -> Callback | None:
    """The callback that the parameter ``early_stopping`` stands for: a patience, a dict of arguments, or a callback.

    Examples
    --------
    >>> early_stopping_of(3).patience, early_stopping_of({"patience": 4}).patience
    (3, 4)
    """
    if value is None or value is False or isinstance(value, Callback):
        return value or None
    if value is True:
        return EarlyStopping()
    if isinstance(value, int):
        return EarlyStopping(patience=value)
    if isinstance(value, Mapping):
        return EarlyStopping(**value)
    raise InvalidTypeError(
        f"early_stopping={value!r} must be a patience in epochs, a dict of arguments of EarlyStopping, a Callback or None"
    )
