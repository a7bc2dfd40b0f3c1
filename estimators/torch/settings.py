"""The settings of one fit, as TorchEstimator's parameters say them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from raydp_ml.estimators.callbacks import Callback
from raydp_ml.estimators.torch.losses import ModelOutput
from raydp_ml.estimators.torch.metrics import Metric
from raydp_ml.estimators.torch.optimizers import OptimizerRecipe
from raydp_ml.estimators.torch.schedulers import SchedulerSettings

if TYPE_CHECKING:
    from raydp_ml.estimators.torch.loop import TrainingLoop

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """The settings of one fit.

    ``accumulate`` is how many batches make a step of the optimizer; ``loop`` the class of the training loop.
    """

    model: Any
    optimizer: OptimizerRecipe
    loss: Callable[..., Any]
    kind: str | None
    loop: type[TrainingLoop]
    model_params: Mapping[str, Any] | None = None
    model_output: ModelOutput = None
    scheduler: SchedulerSettings = field(default_factory=SchedulerSettings)
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    batch_size: int = 256
    epochs: int = 10
    shuffle: bool = True
    drop_last: bool = False
    accumulate: int = 1
    max_grad_norm: float | None = None
    max_grad_value: float | None = None
    precision: str = "float32"
    compile: Mapping[str, Any] | None = None
    callbacks: tuple[Callback, ...] = ()
    feature_types: Any = None
    label_type: Any = None
    threads: int | None = None
