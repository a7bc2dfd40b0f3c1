"""The state of a training of Keras, as a checkpoint holds it: numbers of numpy, and no code. Imports Keras."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from raydp_ml.estimators.protocol import Checkpoint

__all__ = ["GoOn", "restore", "state_of"]

_MODEL, _OPTIMIZER, _STOPPING = "model.npz", "optimizer.npz", "stopping.json"
# What early stopping notes besides the best weights.
_NOTED = ("wait", "best", "best_epoch", "stopped_epoch")


def state_of(model: Any, callbacks: Sequence[Any], rank: int) -> dict[str, bytes]:
    """The state after an epoch, on the first worker.

    Parameters
    ----------
    model : keras.Model
        The model with its optimizer.
    callbacks : sequence of keras.callbacks.Callback
        Of these, early stopping has a state.
    rank : int
        Which of the workers this is.
    """
    if rank:
        return {}
    pieces = {_MODEL: _packed(model.variables), _OPTIMIZER: _packed(model.optimizer.variables)}
    noted = []
    for number, each in enumerate(_stoppings(callbacks)):
        noted.append({name: _number(vars(each)[name]) for name in _NOTED})
        if each.best_weights is not None:
            pieces[_best(number)] = _packed(each.best_weights)
    return {**pieces, _STOPPING: json.dumps({"stops": bool(model.stop_training), "noted": noted}).encode()}


def restore(model: Any, checkpoint: Checkpoint) -> None:
    """Give a compiled model, and its optimizer, what a checkpoint holds.

    Parameters
    ----------
    model : keras.Model
        A model of the same build.
    checkpoint : Checkpoint
        What :func:`state_of` gave.
    """
    model.optimizer.build(model.trainable_variables)
    for variables, name in ((model.variables, _MODEL), (model.optimizer.variables, _OPTIMIZER)):
        for variable, value in zip(variables, _unpacked(checkpoint.state[name]), strict=True):
            variable.assign(value)


class GoOn(keras.callbacks.Callback):
    """Gives early stopping what it had noted, after it has begun anew; it stands behind it among the callbacks.

    Parameters
    ----------
    checkpoint : Checkpoint
        What the training goes on from.
    callbacks : sequence of keras.callbacks.Callback
        The callbacks of the training.

    Attributes
    ----------
    stopped : bool
        Whether a callback had ended the training when the checkpoint was written.
    """

    def __init__(self, checkpoint: Checkpoint, callbacks: Sequence[Any]) -> None:
        super().__init__()
        self._state, self._callbacks = checkpoint.state, list(callbacks)
        stopping = json.loads(checkpoint.state[_STOPPING])
        self._noted: list[dict[str, Any]] = stopping["noted"]
        self.stopped: bool = stopping["stops"]

    def on_train_begin(self, logs: dict | None = None) -> None:
        for number, (each, noted) in enumerate(zip(_stoppings(self._callbacks), self._noted, strict=True)):
            vars(each).update({name: noted[name] for name in _NOTED})
            if _best(number) in self._state:
                each.best_weights = _unpacked(self._state[_best(number)])


def _stoppings(callbacks: Sequence[Any]) -> list[Any]:
    return [each for each in callbacks if isinstance(each, keras.callbacks.EarlyStopping)]


def _best(number: int) -> str:
    return f"best-{number}.npz"


def _number(value: Any) -> float | int | None:
    return value if value is None or isinstance(value, int) else float(value)


def _packed(variables: Sequence[Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, *(np.asarray(each) for each in variables))
    return buffer.getvalue()


def _unpacked(content: bytes) -> list[np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return [arrays[name] for name in arrays.files]
