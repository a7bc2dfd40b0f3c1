"""What a fit is told: where to run, and what its workers do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
        return cls(
            workers=int(distributed) if workers is None else workers,
            all_cpus=workers is None and params["resources_per_worker"] is None,
            use_gpu=bool(params["use_gpu"]),
            resources_per_worker=params["resources_per_worker"],
            scaling_config=scaling,
            run_config=params["run_config"],
            storage_path=params["storage_path"],
            max_retries=params["max_retries"] if max_retries is None else max_retries,
        )

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
