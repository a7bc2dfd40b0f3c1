"""Schedulers of Ray Tune that stop weak candidates early: which ones can work here, and how they see candidates."""

from __future__ import annotations

import copy
from typing import Any

from ray.tune.schedulers import (
    FIFOScheduler,
    HyperBandForBOHB,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    PopulationBasedTrainingReplay,
    ResourceChangingScheduler,
    TrialScheduler,
)

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.search.budget import FACTOR
from raydp_ml.search.trainable import AMOUNT, METRIC, STEP_COMPLETE, TIME

__all__ = ["InSteps", "scheduler_of"]

_WAITS_FOR_BRACKETS = (
    "it holds all candidates of a bracket back until the last of them has reported; ASHAScheduler does not wait"
)
_REFUSED: dict[type, str] = {
    PopulationBasedTraining: (
        "it changes parameters in the middle of a trial, and the score of a candidate would be that of several"
    ),
    PopulationBasedTrainingReplay: (
        "it changes parameters in the middle of a trial, and the score of a candidate would be that of several"
    ),
    ResourceChangingScheduler: "it changes the resources of running trials, whose process trains in the middle of a step",
    HyperBandForBOHB: _WAITS_FOR_BRACKETS,
    HyperBandScheduler: _WAITS_FOR_BRACKETS,
}


def scheduler_of(value: Any) -> TrialScheduler | None:
    """The scheduler of Ray Tune that the parameter ``scheduler`` stands for; "asha" is :mod:`raydp_ml.search.halving`.

    Parameters
    ----------
    value : None, "median" or ray.tune.schedulers.TrialScheduler
        What the user gave.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        For one that cannot work here, with the reason.

    Examples
    --------
    >>> scheduler_of(None) is None
    True
    """
    if value is None or type(value) is FIFOScheduler:
        return None
    if isinstance(value, str):
        if value == "median":
            return InSteps(
                MedianStoppingRule(time_attr=TIME, grace_period=1, min_samples_required=3, min_time_slice=FACTOR**3)
            )
        raise InvalidValueError(f"scheduler={value!r} must be 'asha', 'median', a scheduler of Ray Tune, or None")
    if not isinstance(value, TrialScheduler):
        raise InvalidTypeError(f"scheduler must be 'asha', 'median' or a scheduler of Ray Tune, got {value!r}")
    for kind, reason in _REFUSED.items():
        if isinstance(value, kind):
            raise InvalidValueError(f"scheduler={type(value).__name__} cannot be used in a search: {reason}")
    return InSteps(copy.deepcopy(value))  # it learns from the search, and what the user gave stays as it is


class InSteps(TrialScheduler):
    """Shows a scheduler the results of whole steps: the mean over all folds, and epochs or rounds as ``training_iteration``.

    Parameters
    ----------
    inner : TrialScheduler
        Decides.
    """

    def __init__(self, inner: TrialScheduler) -> None:
        super().__init__()
        self.inner = inner

    @property
    def metric(self) -> Any:
        """What it looks at."""
        return self.inner.metric

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Take the score and its direction, which a scheduler of the user's may have already."""
        if self.inner.set_search_properties(metric, mode, **spec):
            return True
        if self.inner.metric != METRIC:
            raise InvalidValueError(
                f"scheduler looks at the metric {self.inner.metric!r}; leave metric and mode out, the search gives its score"
            )
        return True

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """A trial was added."""
        self.inner.on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """A trial failed."""
        self.inner.on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide, when all folds have been fitted at this step."""
        if not result.get(STEP_COMPLETE):
            return str(TrialScheduler.CONTINUE)
        decision: str = self.inner.on_trial_result(tune_controller, trial, _in_epochs(result))
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """A trial ended."""
        self.inner.on_trial_complete(tune_controller, trial, _in_epochs(result))

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """A trial was removed before it ran."""
        self.inner.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any, **options: Any) -> Any:
        """The trial that is to start next."""
        return self.inner.choose_trial_to_run(tune_controller, **options)

    def debug_string(self) -> str:
        """What it has to say."""
        return str(self.inner.debug_string())

    def save(self, checkpoint_path: str) -> None:
        """Write its state down."""
        self.inner.save(checkpoint_path)

    def restore(self, checkpoint_path: str) -> None:
        """Read its state."""
        self.inner.restore(checkpoint_path)


def _in_epochs(result: dict[str, Any]) -> dict[str, Any]:
    return {**result, "training_iteration": int(result.get(AMOUNT, 0))}
