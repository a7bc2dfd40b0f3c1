"""The state of a training of torch, as a checkpoint holds it: written by torch, and read without running code from the file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from raydp_ml.errors import InvalidValueError
from raydp_ml.persistence.codecs.torch_modules import set_unsaved_buffers, unsaved_buffers

if TYPE_CHECKING:
    from raydp_ml.estimators.protocol import Checkpoint
    from raydp_ml.estimators.torch.loop import TrainingLoop

__all__ = ["go_on", "state_of", "take_training_state", "training_state"]

_WHOLE, _OWN = "training.pt", "random.pt"


def state_of(training: TrainingLoop) -> dict[str, bytes]:
    """The state after an epoch: on the first worker all of it, on the others what is random there.

    Parameters
    ----------
    training : TrainingLoop
        The training.
    """
    pieces = {_OWN: _written(_random_state(training), "the random state")}
    if training.job.rank == 0:
        pieces[_WHOLE] = _written(training.state_dict(), "the state of the training")
    return pieces


def go_on(training: TrainingLoop, checkpoint: Checkpoint) -> None:
    """Have a training that is prepared go on from a checkpoint.

    Parameters
    ----------
    training : TrainingLoop
        The training.
    checkpoint : Checkpoint
        What :func:`state_of` gave.
    """
    training.load_state_dict(_read(checkpoint.state[_WHOLE]))
    own = _read(checkpoint.own[_OWN])
    training.shuffling.set_state(own["shuffling"])
    if (
        training.job.seed is not None
    ):  # otherwise nothing random is repeated, and the state is that of the user's process
        torch.set_rng_state(own["cpu"])
        if own["cuda"] is not None and training.device.type == "cuda":
            torch.cuda.set_rng_state(own["cuda"], training.device)


def training_state(training: TrainingLoop) -> dict[str, Any]:
    """What all workers have in common: see :meth:`TrainingLoop.state_dict`."""
    scheduler = training.scheduler
    return {
        "module": dict(training.module.state_dict()),
        "buffers": unsaved_buffers(training.module),
        "optimizer": training.optimizer.state_dict(),
        "scheduler": None if scheduler is None else scheduler.state_dict(),
        "gradients": training.gradients.state_dict(),
        "callbacks": [each.state_dict(training) for each in training.settings.callbacks],
        "stop": training.stop,
    }


def take_training_state(training: TrainingLoop, state: Mapping[str, Any]) -> None:
    """Take over what :func:`training_state` gave."""
    training.module.load_state_dict(state["module"])
    set_unsaved_buffers(training.module, state["buffers"])
    training.optimizer.load_state_dict(state["optimizer"])
    if training.scheduler is not None:
        training.scheduler.load_state_dict(state["scheduler"])
    training.gradients.load_state_dict(state["gradients"])
    for callback, own in zip(training.settings.callbacks, state["callbacks"], strict=True):
        callback.load_state_dict(training, own)
    training.stop = state["stop"]


def _random_state(training: TrainingLoop) -> dict[str, Any]:
    on_gpu = training.device.type == "cuda"
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(training.device) if on_gpu else None,
        "shuffling": training.shuffling.get_state(),
    }


def _written(state: Mapping[str, Any], what: str) -> bytes:
    buffer = io.BytesIO()
    torch.save(_plain(state, what), buffer)
    return buffer.getvalue()


def _read(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _plain(value: Any, place: str) -> Any:
    """The value in containers of Python; raises for what could not be read again without running code."""
    if value is None or isinstance(value, torch.Tensor | bool | int | float | str):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _plain(each, f"{place}, {key}") for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(each, place) for each in value) if type(value) in (list, tuple) else tuple(value)
    raise InvalidValueError(
        f"{place} holds a {type(value).__module__}.{type(value).__qualname__}, which cannot stand in a checkpoint: tensors, "
        "numbers, strings, lists and dicts can; or fit with checkpoint_every=0"
    )
