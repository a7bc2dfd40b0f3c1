"""Boosting in the actors of xgboost-ray, in place of Ray Train's workers.

xgboost-ray 0.1.19, its last release, reaches into xgboost's communication between workers as that was up to xgboost 2.0.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raydp_ml.errors import InvalidValueError, MissingDependencyError
from raydp_ml.estimators.protocol import Job, Reporter, Rows
from raydp_ml.estimators.xgb.backend import XGBBackend
from raydp_ml.frames.layouts import is_sparse

__all__ = ["XGBoostRayBackend", "in_actors"]

_NEEDED = (
    "backend='xgboost-ray' needs xgboost-ray 0.1.19 with xgboost 2.0.3 or older, which the extra installs: pip install "
    '"raydp-ml[xgboost-ray]", in an environment of its own'
)
_REFUSED = (
    "enable_categorical", "feature_weights", "use_gpu", "scaling_config", "run_config", "storage_path", "external_memory",
)  # fmt: skip


def in_actors(backend: XGBBackend, task: str, params: Mapping[str, Any]) -> XGBoostRayBackend:
    """The same training in the actors of xgboost-ray.

    Parameters
    ----------
    backend : XGBBackend
        With the settings of the fit.
    task : str
        Of the estimator.
    params : mapping
        All parameters of the estimator.

    Raises
    ------
    MissingDependencyError
        When xgboost-ray is not installed, or the installed xgboost is too new for it.
    InvalidValueError
        For what xgboost-ray is not asked for.
    """
    _require()
    refused = [name for name in _REFUSED if params[name]]
    if refused:
        raise InvalidValueError(
            f"{', '.join(refused)} cannot be given with backend='xgboost-ray'; use backend='xgboost'"
        )
    functions = callable(backend.objective) or backend.metric_functions
    if functions or task == "ranking" or str(backend.objective).startswith("survival:"):
        what = "functions" if functions else "ranking" if task == "ranking" else str(backend.objective)
        raise InvalidValueError(f"backend='xgboost-ray' does not train with {what}; use backend='xgboost'")
    cpus = int((params["resources_per_worker"] or {}).get("CPU", 1))
    return XGBoostRayBackend(
        **vars(backend), actors=max(1, params["num_workers"] or 1), cpus=max(1, cpus), restarts=params["max_retries"]
    )


def _require() -> Any:
    import xgboost

    if tuple(int(part) for part in xgboost.__version__.split(".")[:2]) > (2, 0):
        raise MissingDependencyError(f"{_NEEDED}; xgboost {xgboost.__version__} is installed")
    try:
        import xgboost_ray
    except ImportError as error:
        raise MissingDependencyError(_NEEDED) from error
    return xgboost_ray


@dataclass
class XGBoostRayBackend(XGBBackend):
    """xgboost-ray with the settings of one fit; it runs in the user's process, which has all rows.

    ``actors`` boost with ``cpus`` CPUs and threads each, and start again ``restarts`` times when they die.
    """

    actors: int = 1
    cpus: int = 1
    restarts: int = 0

    def not_streamed(self, goes_on: bool) -> str | None:
        """Its matrices take all rows at once."""
        return "backend='xgboost-ray' takes all rows at once"

    def boost(self, params: dict[str, Any], job: Job, start: Any, reporter: Reporter, cache: Path | None) -> Any:
        """Grow the trees in the actors; the history comes after the last round."""
        xgboost_ray = _require()
        if is_sparse(job.train.X):
            raise InvalidValueError(
                "backend='xgboost-ray' takes no sparse rows; set sparse=False, or backend='xgboost'"
            )
        train = _matrix(xgboost_ray, job.train)
        watched = [(train, "train")]
        if job.validation is not None:
            watched.append((_matrix(xgboost_ray, job.validation), "valid"))
        logs: dict[str, dict[str, list[float]]] = {}
        booster = xgboost_ray.train(
            {**params, "nthread": self.params.get("nthread", self.cpus)},
            train,
            num_boost_round=self.rounds,
            evals=watched,
            evals_result=logs,
            verbose_eval=False,
            xgb_model=start,
            callbacks=self.callbacks_of_fit(),
            ray_params=xgboost_ray.RayParams(
                num_actors=self.actors, cpus_per_actor=self.cpus, max_actor_restarts=self.restarts, verbose=False
            ),
        )
        for place in range(max(len(log) for log in logs["train"].values())):
            metrics = {f"{side}_{name}": float(log[place]) for side, each in logs.items() for name, log in each.items()}
            reporter.report({"epoch": place + 1, **metrics})
        return booster


def _matrix(xgboost_ray: Any, rows: Rows) -> Any:
    about = {"weight": rows.weight, "base_margin": rows.base_margin}
    return xgboost_ray.RayDMatrix(rows.X, rows.y, sharding=xgboost_ray.RayShardingMode.BATCH, **about)
