"""RayDP's TorchEstimator over raydp_ml's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from raydp.adapter import EstimatorAdapter
from raydp.torch.torch_metrics import metrics_of
from raydp_ml.errors import InvalidValueError


class TorchEstimator(EstimatorAdapter):
    """A PyTorch model with RayDP's arguments; :class:`raydp_ml.TorchEstimator` has more.

    Parameters
    ----------
    num_workers : int, default 1
        Ray Train workers.
    resources_per_worker : dict, optional
        Ray resources of each worker.
    model : torch.nn.Module or callable
        The model, or a function of the configuration (a dict, the argument ``config``) that makes it. It gets all features as
        one matrix.
    optimizer : torch.optim.Optimizer or callable
        An optimizer of the parameters of ``model``, or a function of model and configuration that makes one; None: Adam.
    loss : torch.nn.Module, its class, or callable
        What to minimise, or a function of the configuration that makes it.
    lr_scheduler_creator : callable, optional
        A function of optimizer and configuration that makes a scheduler.
    scheduler_step_freq : {"batch", "epoch"}, default "batch"
        Whether the scheduler steps after each batch or after each epoch.
    feature_columns : list of str, optional
        The features; None: all numeric and vector columns but the label.
    feature_types : torch.dtype or list of these, optional
        Types of the features; None: float.
    label_column : str
        The label.
    label_type : torch.dtype, optional
        Its type; None: what the loss needs.
    batch_size : int, optional
        Rows per step of each worker; None: 256.
    drop_last : bool, default False
        Whether to leave out the rows that do not fill a batch.
    num_epochs : int, optional
        How often training goes over the rows; None: 10.
    shuffle : bool, default True
        Whether to shuffle the rows before each epoch.
    num_processes_for_data_loader : int, default 0
        Accepted for RayDP's programs: the rows are in memory, nothing loads them.
    placement_strategy : str, default "PACK"
        How Ray places the workers.
    metrics_name : list of str or torchmetrics.Metric, optional
        Metrics in the history. ``"Accuracy"``, ``"AUROC"``, ``"MeanAbsoluteError"`` and ``"MeanSquaredError"`` need nothing
        else, other names of torchmetrics need that package.
    metrics_config : dict, optional
        Arguments of metrics of torchmetrics by name.
    use_ccl : bool, default False
        Refused: workers talk through gloo, or NCCL on GPUs.
    **extra_config
        ``config``, and further arguments of :class:`raydp_ml.TorchEstimator`.
    """

    def __init__(
        self,
        num_workers: int = 1,
        resources_per_worker: dict[str, float] | None = None,
        model: Any = None,
        optimizer: Any = None,
        loss: Any = None,
        lr_scheduler_creator: Callable[..., Any] | None = None,
        scheduler_step_freq: str = "batch",
        feature_columns: Sequence[str] | None = None,
        feature_types: Any = None,
        label_column: str | None = None,
        label_type: Any = None,
        batch_size: int | None = None,
        drop_last: bool = False,
        num_epochs: int | None = None,
        shuffle: bool = True,
        num_processes_for_data_loader: int = 0,
        placement_strategy: str = "PACK",
        metrics_name: Sequence[Any] | None = None,
        metrics_config: Mapping[str, Mapping[str, Any]] | None = None,
        use_ccl: bool = False,
        **extra_config: Any,
    ) -> None:
        from raydp_ml import TorchEstimator as Estimator

        if scheduler_step_freq not in ("batch", "epoch"):
            raise InvalidValueError(f"scheduler_step_freq={scheduler_step_freq!r} must be 'batch' or 'epoch'")
        if use_ccl:
            raise InvalidValueError(
                "use_ccl=True asks for oneCCL, which is for PyTorch's builds by Intel: workers here talk through gloo, and NCCL on "
                "GPUs; leave use_ccl out"
            )
        extra = dict(extra_config)
        config = extra.pop("config", None) or {}
        model = _made(model, config)
        if placement_strategy != "PACK" and extra.get("scaling_config") is None:
            extra["scaling_config"] = _scaling(num_workers, resources_per_worker, placement_strategy, extra)
        workers = num_workers if extra.get("scaling_config") is None else extra["scaling_config"].num_workers
        settings = {
            "num_workers": num_workers,
            "resources_per_worker": resources_per_worker,
            "model": model,
            "optimizer": _optimizer(optimizer, model, config),
            "loss": _made(loss, config),
            "lr_scheduler": _scheduler(lr_scheduler_creator, config),
            "scheduler_step_freq": scheduler_step_freq,
            "feature_columns": feature_columns,
            "feature_types": feature_types,
            "label_column": label_column,
            "label_type": label_type,
            # Ours is the batch of all workers together.
            "batch_size": 256 if batch_size is None else batch_size * max(1, workers),
            "drop_last": drop_last,
            "num_epochs": 10 if num_epochs is None else num_epochs,
            "shuffle": shuffle,
            "metrics": metrics_of(metrics_name, metrics_config),
        }
        super().__init__(Estimator, settings, extra)


def _is_function(thing: Any) -> bool:
    from torch.nn import Module

    return callable(thing) and not isinstance(thing, Module | type)


def _made(thing: Any, config: Mapping[str, Any]) -> Any:
    """What a function of the configuration makes; anything else as it is, losses of outputs and targets too."""
    return thing(config) if _is_function(thing) and len(inspect.signature(thing).parameters) == 1 else thing


def _optimizer(optimizer: Any, model: Any, config: Mapping[str, Any]) -> Any:
    if optimizer is None:
        return "adam"
    makes_one = _is_function(optimizer) and len(inspect.signature(optimizer).parameters) == 2
    return optimizer(model, config) if makes_one else optimizer


def _scaling(
    workers: int, resources: dict[str, float] | None, placement_strategy: str, extra: Mapping[str, Any]
) -> Any:
    from ray.train import ScalingConfig

    return ScalingConfig(
        num_workers=workers,
        use_gpu=bool(extra.get("use_gpu")),
        resources_per_worker=resources,
        placement_strategy=placement_strategy,
    )


def _scheduler(creator: Callable[..., Any] | None, config: Mapping[str, Any]) -> Any:
    """A function of the optimizer alone, as raydp_ml takes it."""
    if creator is None:
        return None

    def make(optimizer: Any) -> Any:
        return creator(optimizer, config)

    return make
