"""What a fit is told: where to run, and what its workers do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.estimators.checkpoints import Checkpoints
from raydp_ml.estimators.launch.encoding import Encoding
from raydp_ml.estimators.protocol import Backend, Fitted
from raydp_ml.frames.columns import Feature

__all__ = ["Assignment", "Placement"]


@dataclass(frozen=True)
class Placement:
    """Where a fit is to run.

    ``workers`` 0 means this process; ``all_cpus`` lets a single worker use all CPUs that it can have on its node.
    """

    workers: int = 0
    all_cpus: bool = False
    use_gpu: bool = False
    resources_per_worker: dict[str, float] | None = None
    scaling_config: Any = None
    run_config: Any = None
    storage_path: Any = None
    max_retries: int = 3

    @classmethod
    def of(cls, params: Mapping[str, Any], distributed: bool, max_retries: int | None) -> Placement:
        """Where an estimator's parameters say that a fit is to run.

        Parameters
        ----------
        params : mapping
            As ``get_params(deep=False)`` gives them.
        distributed : bool
            Whether the rows lie in a cluster.
        max_retries : int or None
            In place of the parameter of that name.

        Examples
        --------
        >>> names = ("use_gpu", "resources_per_worker", "scaling_config", "run_config", "storage_path", "max_retries")
        >>> Placement.of({**dict.fromkeys(names), "num_workers": None}, distributed=True, max_retries=2).workers
        1
        """
        workers, scaling = params["num_workers"], params["scaling_config"]
        if scaling is not None:
            asked = getattr(scaling, "num_workers", None)
            if not isinstance(asked, int):
                raise InvalidTypeError("scaling_config must be a ray.train.ScalingConfig with a number of workers")
            if workers is not None and workers != asked:
                raise InvalidValueError(
                    f"num_workers={workers} and scaling_config.num_workers={asked} differ; give one"
                )
            workers = asked
        placement = cls(
            workers=int(distributed) if workers is None else workers,
            all_cpus=workers is None and params["resources_per_worker"] is None,
            use_gpu=bool(params["use_gpu"]),
            resources_per_worker=params["resources_per_worker"],
            scaling_config=scaling,
            run_config=params["run_config"],
            storage_path=params["storage_path"],
            max_retries=params["max_retries"] if max_retries is None else max_retries,
        )
        return placement.with_one_gpu_each()

    @property
    def only_cpus(self) -> bool:
        """Whether it is one worker on CPUs, with nothing of Ray Train's own configuration."""
        return (
            self.workers == 1
            and not self.use_gpu
            and self.scaling_config is None
            and self.run_config is None
            and set(self.resources_per_worker or {}) <= {"CPU"}
        )

    def with_one_gpu_each(self) -> Placement:
        """The same GPUs with a worker for each of them, because a worker's process computes on one.

        The training libraries use several GPUs through as many processes. A worker that was to have n GPUs becomes n workers,
        which share its other resources.

        Raises
        ------
        InvalidValueError
            When a worker was to have more than one GPU, and not a whole number of them.

        Examples
        --------
        >>> Placement(1, use_gpu=True, resources_per_worker={"CPU": 8, "GPU": 2}).with_one_gpu_each()  # doctest: +ELLIPSIS
        Placement(workers=2, ..., resources_per_worker={'CPU': 4.0, 'GPU': 1.0}, ...)
        """
        scaling = self.scaling_config
        asked = (self.resources_per_worker if scaling is None else scaling.resources_per_worker) or {}
        gpus = asked.get("GPU", 1)
        if gpus <= 1 or self.workers == 0:
            return self
        if gpus != int(gpus):
            raise InvalidValueError(
                f"resources_per_worker has {gpus} GPUs; above 1 it must be a whole number of them, each of which a process of its "
                "own computes on"
            )
        workers = self.workers * int(gpus)
        each = {name: _share(name, amount, int(gpus)) for name, amount in asked.items()}
        if scaling is None:
            return replace(self, workers=workers, resources_per_worker=each)
        return replace(
            self, workers=workers, scaling_config=replace(scaling, num_workers=workers, resources_per_worker=each)
        )


def _share(name: str, amount: float, parts: int) -> float:
    """One part of a resource; Ray counts memory in whole bytes."""
    return int(amount // parts) if name == "memory" else amount / parts


@dataclass(frozen=True)
class Assignment:
    """What every worker of a fit is told; ``streamed`` says whether it has its rows on disk."""

    backend: Backend
    task: str
    features: tuple[Feature, ...]
    label: str
    outputs: int = 1
    classes: np.ndarray | None = None
    class_weight: np.ndarray | None = None
    seed: int | None = None
    previous: Fitted | None = None
    verbose: bool = True
    epochs: int | None = None
    checkpoints: Checkpoints | None = None
    streamed: bool = False

    @property
    def encoding(self) -> Encoding:
        """What labels and weights of the training rows become."""
        return Encoding("the training data", self.classes, self.class_weight)

    @property
    def validation_encoding(self) -> Encoding:
        """The same for the rows to validate on, which have the weights of the rows only."""
        return Encoding("validation", self.classes)
