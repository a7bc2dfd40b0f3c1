"""What happens between two rounds of boosting: callbacks, the report, and the state for a checkpoint. Imports xgboost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import xgboost
from xgboost.callback import EarlyStopping, TrainingCallback

from raydp_ml.estimators.protocol import Checkpoint, Job, Reporter
from raydp_ml.estimators.xgb.watching import Watch

__all__ = ["Rounds", "booster_at"]

_BOOSTER, _STATE, _BEST = "booster.ubj", "rounds.json", "best.ubj"
# Their later rounds change what earlier ones have learnt, so that the best model is not the first rounds of the last one.
_CHANGES_ROUNDS = ("dart", "gblinear")


def booster_at(checkpoint: Checkpoint) -> Any:
    """The booster that a checkpoint holds."""
    return xgboost.Booster(model_file=bytearray(checkpoint.state[_BOOSTER]))


class Rounds(TrainingCallback):
    """All callbacks of a training as one, each called in every round, and the report of the round after them.

    Rounds count on from the checkpoint that the training goes on from, and the metrics that callbacks see are those of all rounds.

    What xgboost draws at random cannot be read out. So where checkpoints are written, drawing begins anew after each of them, with
    a seed of that round: a training that goes on from there draws what this one does.

    Parameters
    ----------
    callbacks : sequence of xgboost.callback.TrainingCallback
        In the order in which they are called.
    job : Job
        What to train.
    reporter : Reporter
        Takes the metrics.
    params : mapping
        The parameters of xgboost; of these, its booster, seed and number of threads count here.
    watch : Watch
        Which metrics are told.
    sides : sequence of str
        The rows that xgboost evaluates in each round, ``"train"`` and ``"valid"``.
    """

    def __init__(
        self,
        callbacks: Sequence[Any],
        job: Job,
        reporter: Reporter,
        params: Mapping[str, Any],
        watch: Watch,
        sides: Sequence[str],
    ) -> None:
        self._watch, self._sides = watch, tuple(sides)
        self._callbacks, self._job, self._reporter = list(callbacks), job, reporter
        self._seed, self._threads = int(params.get("seed", 0)), params.get("nthread")
        self._keeps_best = params.get("booster") in _CHANGES_ROUNDS and bool(self._stoppings())
        self._best: bytes | None = None
        self._done = job.epochs_done
        self._before: dict[str, Any] = {}
        if job.checkpoint is not None:
            self._before = json.loads(job.checkpoint.state[_STATE])
            self._best = job.checkpoint.state.get(_BEST)
        self._stops = False
        super().__init__()

    @property
    def stopped(self) -> bool:
        """Whether the training had come to its end when the checkpoint was written."""
        return bool(self._before.get("stopped", False))

    def best(self, model: Any) -> Any:
        """The model of the best round of early stopping, where that is more than the first rounds of ``model``; else ``model``."""
        return model if self._best is None else xgboost.Booster(model_file=bytearray(self._best))

    def before_training(self, model: Any) -> Any:
        """Training begins."""
        for callback in self._callbacks:
            model = callback.before_training(model)
        if self._before:
            # Callbacks may have set parameters, a learning rate say.
            model.load_config(self._before["config"])
            if self._threads is not None:
                model.set_param({"nthread": self._threads})
            for callback, state in zip(self._stoppings(), self._before["stopping"], strict=True):
                vars(callback).update(state)
        return model

    def after_training(self, model: Any) -> Any:
        """Training has ended."""
        for callback in self._callbacks:
            model = callback.after_training(model)
        return model

    def before_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """A round begins."""
        if epoch == 0 and self._done:
            self._fill(evals_log)
        done = epoch + self._done
        if done and self._is_due(done):
            # Samplers of columns keep what they have drawn; a configuration that is loaded makes new ones.
            model.load_config(model.save_config())
            model.set_param({"seed": self._seed + done})
        return any(
            [callback.before_iteration(model, self._round(callback, epoch), evals_log) for callback in self._callbacks]
        )

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """A round has ended."""
        stops = [
            callback.after_iteration(model, self._round(callback, epoch), evals_log) for callback in self._callbacks
        ]
        self._stops = any(stops)
        if self._keeps_best and self._stoppings()[-1].current_rounds == 0:
            self._best = bytes(model.save_raw("ubj"))
        number = epoch + self._done + 1
        values = self._watch.metrics(model, number, evals_log)
        self._reporter.report({"epoch": number, **values}, lambda: self._state(model))
        return self._stops

    def _is_due(self, done: int) -> bool:
        every = self._job.checkpoint_every
        return every > 0 and done % every == 0

    def _round(self, callback: Any, epoch: int) -> int:
        """The number of a round, as a callback counts it: early stopping adds the rounds of the booster itself."""
        return epoch if isinstance(callback, EarlyStopping) else epoch + self._done

    def _stoppings(self) -> list[Any]:
        return [each for each in self._callbacks if isinstance(each, EarlyStopping)]

    def _fill(self, evals_log: Any) -> None:
        for entry in self._job.checkpoint.history if self._job.checkpoint is not None else ():
            for name, value in entry.items():
                side, _, metric = name.partition("_")
                if side in self._sides:
                    evals_log.setdefault(side, {}).setdefault(metric, []).append(value)

    def _state(self, model: Any) -> dict[str, bytes]:
        if self._job.rank:
            return {}
        kept = ("stopping_history", "best_scores", "current_rounds")
        state = {
            "config": model.save_config(),
            "stopping": [{name: getattr(each, name) for name in kept} for each in self._stoppings()],
            "stopped": self._stops,
        }
        pieces = {_BOOSTER: bytes(model.save_raw("ubj")), _STATE: json.dumps(state).encode()}
        return pieces if self._best is None else {**pieces, _BEST: self._best}
