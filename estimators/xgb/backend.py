"""xgboost with the settings of one fit: matrices, boosting rounds, and what is reported of them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.callbacks import copy_of_own
from raydp_ml.estimators.protocol import Backend, Job, Reporter
from raydp_ml.estimators.xgb.continuation import check_start
from raydp_ml.estimators.xgb.features import (
    by_position,
    column_types,
    name_features,
    weights_of_features,
    without_names,
)
from raydp_ml.estimators.xgb.fitted import XGBFitted, reason_of
from raydp_ml.estimators.xgb.matrix import Matrices, needs_values
from raydp_ml.estimators.xgb.metrics import EvalMetrics
from raydp_ml.estimators.xgb.watching import Watch
from raydp_ml.estimators.xgb.weights import Weighing
from raydp_ml.frames.columns import column_names

__all__ = ["XGBBackend"]


@dataclass
class XGBBackend(Backend):
    """xgboost with the settings of one fit."""

    modules: ClassVar[tuple[str, ...]] = ("xgboost", "raydp_ml.estimators.xgb.backend")

    params: dict[str, Any]
    objective: Any
    metrics: list[str]
    rounds: int
    metric_functions: Sequence[Callable] = ()
    early_stopping_rounds: int | None = None
    maximize: bool | None = None
    callbacks: list[Any] = field(default_factory=list)
    feature_weights: Any = None
    start: Any = None
    external_memory: bool = False
    ranking: bool = False

    def trainer_class(self, workers: int) -> Any:
        """The trainer that sets up xgboost's collective."""
        from functools import partial

        from ray.train.xgboost import XGBoostTrainer

        from raydp_ml.estimators.xgb.ray_train import QuietXGBoostConfig

        return partial(XGBoostTrainer, xgboost_config=QuietXGBoostConfig())

    def not_streamed(self, goes_on: bool) -> str | None:
        """Why the rows cannot be trained on in chunks; None where they can."""
        if needs_values(self.params):
            return "booster='gblinear', tree_method='exact' and 'approx' read the values of all rows, which chunks put into bins"
        if (goes_on or self.start is not None) and not self.external_memory:
            return (
                "trees of before were grown with other bounds of bins, and need the values of all rows; external_memory=True "
                "keeps these on disk"
            )
        if self.ranking:
            # Tried with xgboost 3.2: it trains, and takes a query that two chunks have for two queries.
            return "ranking needs the rows of a query side by side, and chunks come as they lie"
        return None

    def train(self, job: Job, reporter: Reporter) -> XGBFitted:
        """Boost on this worker's rows."""
        if not self.external_memory:
            return self._boost(job, reporter, None)
        with job.scratch() as folder:
            try:
                return self._boost(job, reporter, folder)
            finally:
                # The matrices stand in cycles of references; while they are there xgboost has files in the folder.
                gc.collect()

    def _boost(self, job: Job, reporter: Reporter, cache: Path | None) -> XGBFitted:
        import xgboost

        names, types = column_names(job.features), column_types(job.features)
        params = by_position(self.params, names)
        if not callable(self.objective):
            params["objective"] = self.objective
        if self.metrics:
            params["eval_metric"] = self.metrics
        if job.seed is not None:
            params.setdefault("seed", job.seed)
        if job.threads is not None:
            params.setdefault("nthread", job.threads)
        start = self.start if job.previous is None else job.previous.booster
        if start is not None:
            check_start(start, len(names), 0 if job.classes is None else len(job.classes))
        try:
            booster = self.boost(params, job, None if start is None else without_names(start), reporter, cache)
        except xgboost.core.XGBoostError as error:
            raise InvalidValueError(f"xgboost refuses to train: {reason_of(error)}") from error
        linear = params.get("booster") == "gblinear"
        if self.early_stopping_rounds is not None and not linear:
            booster = _up_to_best(booster)
        name_features(booster, names, types)
        levels = params.get("quantile_alpha", params.get("expectile_alpha"))
        bounds = self.objective == "survival:aft"
        outputs = len(levels) if isinstance(levels, list | tuple | np.ndarray) else 1 if bounds else None
        objective = "custom" if callable(self.objective) else self.objective
        return XGBFitted(booster, objective, job.task, linear, outputs)

    def boost(self, params: dict[str, Any], job: Job, start: Any, reporter: Reporter, cache: Path | None) -> Any:
        """Grow the trees.

        Parameters
        ----------
        params : dict
            Of xgboost, complete.
        job : Job
            The rows.
        start : xgboost.Booster or None
            What to go on from; its features have no names.
        reporter : Reporter
            Is told the metrics of each round.
        cache : pathlib.Path, optional
            A folder for matrices that xgboost keeps on disk.

        Returns
        -------
        xgboost.Booster
            With all rounds, or those up to the best one, and what early stopping noted.
        """
        import xgboost

        from raydp_ml.estimators.xgb.rounds import Rounds, booster_at

        names, types = column_names(job.features), column_types(job.features)
        # Trees of before were grown with the cuts of other rows, so that rows quantised anew would take other ways through them.
        whole = start is not None or needs_values(params)
        bounds = self.objective == "survival:aft"
        matrices = Matrices(params, whole, bounds, weights_of_features(self.feature_weights, names), cache, types)
        train = matrices.of(job.train)
        watched = [(train, "train")] if self._looks_at_training(job) else []
        if job.validation is not None:
            watched.append((matrices.of(job.validation, train), "valid"))
        watch = Watch(train, sum(job.rows_per_rank), self.rounds)
        rounds = Rounds(self.callbacks_of_fit(), job, reporter, params, watch, [side for _, side in watched])
        if job.checkpoint is not None:
            start = without_names(booster_at(job.checkpoint))
        booster = xgboost.train(
            params,
            train,
            num_boost_round=0 if rounds.stopped else self.rounds - job.epochs_done,
            evals=watched,
            obj=Weighing(self.objective, job.train) if callable(self.objective) else None,
            custom_metric=EvalMetrics(self.metric_functions, job.world_size) if self.metric_functions else None,
            verbose_eval=False,
            xgb_model=start,
            callbacks=[rounds],
        )
        return rounds.best(booster)

    def callbacks_of_fit(self) -> list[Any]:
        """The callbacks of the user, and early stopping last."""
        import xgboost

        callbacks = [copy_of_own(each, "xgboost") for each in self.callbacks]
        if self.early_stopping_rounds is not None:
            callbacks.append(xgboost.callback.EarlyStopping(rounds=self.early_stopping_rounds, maximize=self.maximize))
        return callbacks

    def _looks_at_training(self, job: Job) -> bool:
        """Whether something else than the history looks at the metrics of the training rows, which it may do in each round."""
        return bool(
            self.callbacks
            or self.metric_functions
            or (self.early_stopping_rounds is not None and job.validation is None)
        )


def _up_to_best(booster: Any) -> Any:
    """The booster up to its best round, with what early stopping noted, which a part of a booster does not keep."""
    best = booster.attr("best_iteration")
    if best is None:
        return booster
    part = booster[: int(best) + 1]
    part.set_attr(best_iteration=best, best_score=booster.attr("best_score"))
    return part
