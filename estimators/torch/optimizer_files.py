"""The state of a torch optimizer in a saved directory: its tensors in a safetensors file, the rest as plain values."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from raydp_ml.errors import require

__all__ = ["read_optimizer", "write_optimizer"]

_FILE = "optimizer.safetensors"
# Stands for a tensor among the plain values; its key in the file belongs to it.
_TENSOR = "tensor in the file"


class _NotPlainError(Exception):
    """A value of the state has no safe written form."""


def write_optimizer(state: dict[str, Any], directory: str) -> Any:
    """Write what an optimizer has gathered.

    Parameters
    ----------
    state : dict
        Its ``state_dict()``.
    directory : str
        Where the file goes.

    Returns
    -------
    object
        What :func:`read_optimizer` takes; None, with a warning, for a state that holds more than tensors and plain values.
    """
    from safetensors.torch import save_file

    tensors: dict[str, Any] = {}
    try:
        plain = _take_out(state, tensors)
    except _NotPlainError as error:
        warnings.warn(
            f"the state of the optimizer is not written: it holds {error}. A training that goes on after the load begins with a "
            "new optimizer",
            stacklevel=2,
        )
        return None
    if tensors:
        save_file(tensors, Path(directory, _FILE))
    return plain


def read_optimizer(plain: Any, directory: str) -> dict[str, Any] | None:
    """The state that :func:`write_optimizer` wrote.

    Parameters
    ----------
    plain : object
        What it returned; None for no state.
    directory : str
        Where the file is.
    """
    file = Path(directory, _FILE)
    tensors = require("safetensors.torch", "torch").load_file(file) if file.exists() else {}
    return None if plain is None else _put_in(plain, tensors)


def _take_out(value: Any, tensors: dict[str, Any]) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        key = str(len(tensors))
        tensors[key] = value.detach().cpu().clone().contiguous()
        return (_TENSOR, key)
    if isinstance(value, dict) and all(isinstance(key, str | int) for key in value):
        return {key: _take_out(item, tensors) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_take_out(item, tensors) for item in value)
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise _NotPlainError(f"a {type(value).__module__}.{type(value).__qualname__}")


def _put_in(plain: Any, tensors: dict[str, Any]) -> Any:
    if isinstance(plain, tuple) and len(plain) == 2 and plain[0] == _TENSOR:
        return tensors[plain[1]]
    if isinstance(plain, dict):
        return {key: _put_in(item, tensors) for key, item in plain.items()}
    if isinstance(plain, list | tuple):
        return type(plain)(_put_in(item, tensors) for item in plain)
    return plain
