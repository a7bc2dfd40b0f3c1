"""Callbacks of TorchEstimator: small classes with hooks, called on every worker."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.estimators.directions import greater_is_better

if TYPE_CHECKING:
    import torch

    from raydp_ml.estimators.torch.loop import TrainingLoop

__all__ = ["Callback", "EarlyStopping", "copy_of_own", "early_stopping_of"]


class Callback:
    """Base of callbacks; override the hooks that you need.

    Hooks of several callbacks are called in their order, that of ``early_stopping`` last. They run on every worker and see the same
    metrics on all of them, which are those of all workers together. Setting ``training.stop = True`` ends training after the epoch;
    do it on all workers alike.

    Examples
    --------
    >>> class Halt(Callback):
    ...     def on_epoch_end(self, training, metrics):
    ...         training.stop = metrics["train_loss"] < 0.1
    """

    def on_train_begin(self, training: TrainingLoop) -> None:
        """Model and optimizer are made, nothing is trained yet; what a checkpoint holds is taken over after this."""

    def on_epoch_begin(self, training: TrainingLoop, epoch: int) -> None:
        """An epoch begins; they count from 1."""

    def on_batch_begin(self, training: TrainingLoop, batch: int) -> None:
        """A step of the optimizer begins, over one batch or over those that are accumulated; in an epoch they count from 0."""

    def on_batch_end(self, training: TrainingLoop, batch: int, loss: torch.Tensor) -> None:
        """A step of the optimizer was made; ``loss`` is that of this worker's rows in it."""

    def on_epoch_end(self, training: TrainingLoop, metrics: Mapping[str, float]) -> None:
        """An epoch ended with these metrics."""

    def on_train_end(self, training: TrainingLoop) -> None:
        """The last epoch ended."""

    def state_dict(self, training: TrainingLoop) -> dict[str, Any]:
        """What this callback has to know again when a training goes on from a checkpoint.

        Returns
        -------
        dict
            Tensors, numbers, strings, and lists and dicts of them; nothing by default.
        """
        return {}

    def load_state_dict(self, training: TrainingLoop, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave on the first worker; called on every worker, after ``on_train_begin``."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments that this callback was made with, as far as it keeps them under their names.

        Parameters
        ----------
        deep : bool, default=True
            For scikit-learn; callbacks have no parameters with parameters.
        """
        names = list(inspect.signature(type(self)).parameters)
        return {name: vars(self)[name] for name in names if name in vars(self)}

    def set_params(self, **params: Any) -> Callback:
        """Make this callback anew with other arguments, so that they are checked.

        Parameters
        ----------
        **params
            Names and values.
        """
        known = self.get_params()
        unknown = [name for name in params if name not in known]
        if unknown:
            raise InvalidValueError(
                f"{type(self).__name__} has no parameter {unknown[0]!r}; it has {', '.join(known) or 'none'}"
            )
        self.__dict__.update(vars(type(self)(**{**known, **params})))
        return self

    def __sklearn_clone__(self) -> Callback:
        # A class of the user may change its arguments, or gather something, so that it cannot be made anew from them.
        return copy.deepcopy(self)


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
    mode : {"auto", "min", "max"}, default="auto"
        Whether less or more is better. "auto" knows it of losses, of scikit-learn's, xgboost's and Keras's metrics; for others it
        has to be said.
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
        mode: str = "auto",
        restore_best: bool = True,
    ) -> None:
        if mode not in ("auto", "min", "max"):
            raise InvalidValueError(f"mode={mode!r} of EarlyStopping must be 'auto', 'min' or 'max'")
        if mode == "auto" and monitor is not None and greater_is_better(monitor) is None:
            raise InvalidValueError(
                f"monitor={monitor!r} of EarlyStopping is a metric of yours, whose direction cannot be known: give mode='min' or "
                "mode='max'"
            )
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
            raise InvalidValueError(f"patience={patience!r} of EarlyStopping must be a whole number of at least 1")
        self.patience = patience
        self.monitor = monitor
        self.min_delta = min_delta
        self.mode = mode
        self.restore_best = restore_best

    @property
    def greater_is_better(self) -> bool:
        """Whether more is better."""
        if self.mode != "auto":
            return self.mode == "max"
        return self.monitor is not None and bool(greater_is_better(self.monitor))

    def is_better(self, value: float, best: float) -> bool:
        """Whether a value is better than the best before; where more is better both are negated."""
        return value < best - self.min_delta

    def on_train_begin(self, training: TrainingLoop) -> None:
        """Begin to compare; what is found is kept with the training, and this object stays as it is."""
        training.memory[self] = _Best()

    def on_epoch_end(self, training: TrainingLoop, metrics: Mapping[str, float]) -> None:
        """Compare with the best epoch."""
        best: _Best = training.memory[self]
        name = self.monitor or ("valid_loss" if "valid_loss" in metrics else "train_loss")
        if name not in metrics:
            known = ", ".join(key for key in metrics if key != "epoch")
            raise InvalidValueError(f"monitor={name!r} of EarlyStopping is not among the metrics: {known}")
        value = -metrics[name] if self.greater_is_better else metrics[name]
        if self.is_better(value, best.value):
            best.value, best.waited = value, 0
            if self.restore_best:
                best.weights = copy.deepcopy(training.module.state_dict())
            return
        best.waited += 1
        training.stop = training.stop or best.waited >= self.patience

    def state_dict(self, training: TrainingLoop) -> dict[str, Any]:
        """The best epoch so far, with its weights."""
        best: _Best = training.memory[self]
        return {"value": best.value, "waited": best.waited, "weights": best.weights}

    def load_state_dict(self, training: TrainingLoop, state: Mapping[str, Any]) -> None:
        """Go on comparing with that epoch."""
        training.memory[self] = _Best(state["value"], state["waited"], state["weights"])

    def on_train_end(self, training: TrainingLoop) -> None:
        """Go back to the best weights."""
        best: _Best = training.memory.pop(self)
        if best.weights is not None:
            training.module.load_state_dict(best.weights)


@dataclass
class _Best:
    """The best epoch so far, and how many have come since."""

    value: float = float("inf")
    waited: int = 0
    weights: Any = None


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


def copy_of_own(callback: Any, library: str) -> Any:
    """A copy of a callback that a library brings; the user's own classes are used as they are, to see what they gather.

    Such callbacks keep the state of a training in themselves: the next one would begin with it.

    Parameters
    ----------
    callback : object
        What the user gave.
    library : str
        The package that the library's own classes are defined in.

    Examples
    --------
    >>> given = EarlyStopping()
    >>> copy_of_own(given, "keras") is given, copy_of_own(given, "raydp_ml") is given
    (True, False)
    """
    if type(callback).__module__.partition(".")[0] != library:
        return callback
    copied = copy.copy(callback)
    # Not a deep copy: functions of the user may be bound to objects that gather something.
    vars(copied).update(
        {name: value.copy() for name, value in vars(callback).items() if isinstance(value, dict | list)}
    )
    return copied
