"""How gradients are computed and used: precision, clipping, and the step of the optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.torch.settings import Settings

__all__ = ["PRECISIONS", "Gradients"]

PRECISIONS = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""The parameter ``precision``: in which type the model computes where torch's autocast says that it may."""


class Gradients:
    """The gradients of one training.

    Parameters
    ----------
    settings : Settings
        Precision and limits.
    module : torch.nn.Module
        The model.
    optimizer : torch.optim.Optimizer
        Its optimizer.
    device : torch.device
        Where it computes.

    Attributes
    ----------
    stepped : bool
        Whether the last step was made: with float16 one whose gradients overflow is left out.
    """

    def __init__(
        self, settings: Settings, module: torch.nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
    ) -> None:
        self._optimizer, self._module, self._device = optimizer, module, device
        self._norm, self._value = settings.max_grad_norm, settings.max_grad_value
        self._dtype = PRECISIONS[settings.precision]
        # Small gradients vanish in float16, so the loss is scaled up before and the gradients down after.
        self._scaler = torch.amp.GradScaler(device.type) if self._dtype is torch.float16 else None
        self.stepped = True
        # LBFGS computes the loss several times in a step.
        self.looks_again = isinstance(optimizer, torch.optim.LBFGS)
        if self._scaler is not None and self.looks_again:
            raise InvalidValueError(
                "precision='fp16' scales the loss, which LBFGS does not allow; use 'bf16' or 'float32'"
            )

    def computing(self) -> AbstractContextManager[Any]:
        """The context in which the model computes."""
        return nullcontext() if self._dtype is None else torch.autocast(self._device.type, dtype=self._dtype)

    def full(self, outputs: Any) -> Any:
        """What the model gave, in float32 for the loss."""
        return outputs if self._dtype is None else _in_float32(outputs)

    def backward(self, value: torch.Tensor) -> None:
        """Add the gradients of a loss to those that there are."""
        (value if self._scaler is None else self._scaler.scale(value)).backward()

    def step(self, compute: Callable[[], torch.Tensor]) -> None:
        """One step of the optimizer.

        Parameters
        ----------
        compute : callable
            Sets the gradients to zero and computes those of the step; returns its loss.
        """
        if self.looks_again:

            def compute_and_clip() -> torch.Tensor:
                value = compute()
                self._clip()
                return value

            self._optimizer.step(compute_and_clip)  # type: ignore[arg-type]
            return
        compute()
        if self._scaler is None:
            self._clip()
            self._optimizer.step()
            return
        if self._norm is not None or self._value is not None:
            self._scaler.unscale_(self._optimizer)
        self._clip()
        before = self._scaler.get_scale()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self.stepped = self._scaler.get_scale() >= before

    def state_dict(self) -> dict[str, Any]:
        """What the next steps need to know of those before: the scale of the loss."""
        return {} if self._scaler is None else self._scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        if self._scaler is not None:
            self._scaler.load_state_dict(state)

    def _clip(self) -> None:
        if self._value is not None:
            torch.nn.utils.clip_grad_value_(self._parameters(), self._value)
        if self._norm is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters(), self._norm)

    def _parameters(self) -> Iterator[torch.nn.Parameter]:
        return self._module.parameters()


def _in_float32(outputs: Any) -> Any:
    if isinstance(outputs, torch.Tensor):
        return outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs
    if isinstance(outputs, dict):
        return {key: _in_float32(value) for key, value in outputs.items()}
    if isinstance(outputs, tuple | list):
        return [_in_float32(value) for value in outputs]
    return outputs
