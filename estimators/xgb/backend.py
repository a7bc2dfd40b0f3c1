"""xgboost with the settings of one fit: matrices, boosting rounds, and what is reported of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.protocol import Backend, Job, Reporter, Rows
from raydp_ml.estimators.xgb.fitted import XGBFitted
from raydp_ml.frames.columns import column_slices
from raydp_ml.frames.layouts import is_sparse

__all__ = ["XGBBackend"]


@dataclass
class XGBBackend(Backend):
    """xgboost with the settings of one fit."""

    modules: ClassVar[tuple[str, ...]] = ("xgboost", "raydp_ml.estimators.xgb.backend")

    params: dict[str, Any]
    objective: Any
    metrics: list[str]
    rounds: int
    metric_function: Callable | None = None
    early_stopping_rounds: int | None = None
    maximize: bool | None = None
    callbacks: list[Any] = field(default_factory=list)

    def trainer_class(self, workers: int) -> Any:
        """The trainer that sets up xgboost's collective."""
        from functools import partial

        from ray.train.xgboost import XGBoostTrainer

        from raydp_ml.estimators.xgb.ray_train import QuietXGBoostConfig

        return partial(XGBoostTrainer, xgboost_config=QuietXGBoostConfig())

    def train(self, job: Job, reporter: Reporter) -> XGBFitted:
        """Boost on this worker's rows."""
        import xgboost

        params = _by_position(self.params, _names(job))
        if not callable(self.objective):
            params["objective"] = self.objective
        if self.metrics:
            params["eval_metric"] = self.metrics
        if job.seed is not None:
            params.setdefault("seed", job.seed)
        if job.threads is not None:
            params.setdefault("nthread", job.threads)
        # Trees of before were grown with the cuts of other rows, so that rows quantised anew would take other ways through them.
        whole = job.previous is not None or _needs_values(params)
        train = _matrix(job.train, params, whole)
        watched = [(train, "train")]
        if job.validation is not None:
            watched.append((_matrix(job.validation, params, whole, train), "valid"))
        callbacks = [*self.callbacks, _reporting(reporter)]
        if self.early_stopping_rounds is not None:
            callbacks.append(xgboost.callback.EarlyStopping(rounds=self.early_stopping_rounds, maximize=self.maximize))
        booster = xgboost.train(
            params,
            train,
            num_boost_round=self.rounds,
            evals=watched,
            obj=self.objective if callable(self.objective) else None,
            custom_metric=self.metric_function,
            verbose_eval=False,
            xgb_model=None if job.previous is None else _without_names(job.previous.booster),
            callbacks=callbacks,
        )
        linear = params.get("booster") == "gblinear"
        if self.early_stopping_rounds is not None and not linear:
            booster = _up_to_best(booster)
        _name_features(booster, job)
        levels = params.get("quantile_alpha", params.get("expectile_alpha"))
        outputs = len(levels) if isinstance(levels, list | tuple | np.ndarray) else None
        objective = "custom" if callable(self.objective) else self.objective
        return XGBFitted(booster, objective, job.task, linear, outputs)


def _needs_values(params: Mapping[str, Any]) -> bool:
    """Whether the method reads the values themselves, not the bins that they fall into."""
    return params.get("booster") == "gblinear" or params.get("tree_method") in ("exact", "approx")


def _matrix(rows: Rows, params: Mapping[str, Any], whole: bool, like: Any = None) -> Any:
    """The rows as xgboost wants them: quantised at once, or ``whole``, with their values."""
    import xgboost

    weight, X, y, qid, margin = rows.weight, rows.X, rows.y, rows.qid, rows.base_margin
    if qid is not None:
        order = np.argsort(qid, kind="stable")
        X, y, qid = X[order], y[order], qid[order]
        margin = None if margin is None else margin[order]
        if weight is not None:  # ranking has a weight for each query
            weight = weight[order][np.unique(qid, return_index=True)[1]]
    about = {"label": y, "weight": weight, "base_margin": margin, "qid": qid}
    if whole:
        return xgboost.DMatrix(X, nthread=params.get("nthread"), **about)
    return xgboost.QuantileDMatrix(X, max_bin=params.get("max_bin"), nthread=params.get("nthread"), ref=like, **about)


def _without_names(booster: Any) -> Any:
    """A copy of a booster that takes matrices without names of features; which column is which was checked before."""
    nameless = booster.copy()
    nameless.feature_names = nameless.feature_types = None
    return nameless


def _reporting(reporter: Reporter) -> Any:
    """A callback of xgboost that tells the reporter each round's metrics."""
    from xgboost.callback import TrainingCallback

    class Report(TrainingCallback):
        def __init__(self) -> None:
            self.round = 0

        def after_iteration(self, model: Any, epoch: int, evals_log: dict) -> bool:
            self.round += 1
            values = {
                f"{side}_{name}": float(log[-1]) for side, logs in evals_log.items() for name, log in logs.items()
            }
            reporter.report({"epoch": self.round, **values})
            return False

    return Report()


def _up_to_best(booster: Any) -> Any:
    best = booster.attr("best_iteration")
    return booster if best is None else booster[: int(best) + 1]


def _names(job: Job) -> list[str]:
    """Names of the columns of the matrix; vectors count their elements."""
    names = []
    for name, part in column_slices(job.features):
        width = part.stop - part.start
        names += [name] if width == 1 else [f"{name}_{place}" for place in range(width)]
    return names


def _name_features(booster: Any, job: Job) -> None:
    """Give the booster the column names, for its importances and plots."""
    if is_sparse(job.train.X):  # of so many columns the numbers will do
        booster.feature_names = None
        return
    names = _names(job)
    unusable = any(set(name) & set("[]<") for name in names) or len(set(names)) < len(names)
    booster.feature_names = None if unusable or names == [str(place) for place in range(len(names))] else names


def _by_position(params: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Constraints that name features, as xgboost takes them for a matrix without names."""
    places = {name: place for place, name in enumerate(names)}

    def place(argument: str, name: Any) -> int:
        if name not in places:
            raise InvalidValueError(f"{argument}: there is no feature {name!r}; the features are {', '.join(names)}")
        return places[name]

    found = dict(params)
    monotone = found.get("monotone_constraints")
    if isinstance(monotone, Mapping):
        signs = [0] * len(names)
        for name, sign in monotone.items():
            signs[place("monotone_constraints", name)] = int(sign)
        found["monotone_constraints"] = tuple(signs)
    groups = found.get("interaction_constraints")
    if isinstance(groups, list | tuple):
        numbers = [
            [place("interaction_constraints", each) if isinstance(each, str) else int(each) for each in group]
            for group in groups
        ]
        found["interaction_constraints"] = str(numbers)  # its text form is the one that needs no names
    return found
