"""The trial as Ray Tune runs it. This module is imported where trials run, and in the driver when a search starts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ray import tune

from raydp_ml.estimators.xgb.kept import keep_matrices
from raydp_ml.search.rungs import Share
from raydp_ml.search.trial import CandidateRun, Outcome, Plan

__all__ = [
    "AMOUNT",
    "METRIC",
    "STEP_COMPLETE",
    "TIME",
    "Candidate",
    "Candidates",
    "Listed",
    "SearchTrial",
    "with_share",
]

# Names in the results of a trial, which schedulers and searchers read.
METRIC = "score"
TIME = "raydp_ml_time"
AMOUNT = "raydp_ml_amount"
STEP_COMPLETE = "raydp_ml_step_complete"

# What a candidate without a score is to a scheduler or a searcher, which cannot compare with NaN.
_WORST = -1e30


@dataclass(frozen=True)
class Candidate:
    """A candidate as its trial gets it: parameters of the estimator, the Spark steps before it, and fits made before."""

    number: int
    params: Mapping[str, Any]
    prefix: int
    done: Outcome | None = None


class Candidates(Protocol):
    """Finds the candidate that a trial of Ray Tune has."""

    def of(self, config: Mapping[str, Any]) -> Candidate:
        """The candidate of a trial's configuration."""
        ...


@dataclass(frozen=True)
class Listed:
    """Candidates that are all known before the search starts."""

    params: list[dict[str, Any]]
    prefixes: list[int]
    done: dict[int, Outcome] = field(default_factory=dict)

    def of(self, config: Mapping[str, Any]) -> Candidate:
        """The candidate of a trial's configuration, which has its number."""
        number = config["candidate"]
        return Candidate(number, self.params[number], self.prefixes[number], self.done.get(number))


def with_share(config: Mapping[str, Any], share: Share) -> dict[str, Any]:
    """The configuration of a trial that makes a share of a candidate's fits."""
    return {**config, "step": share.step, "folds": list(share.folds)}


def _share_of(config: Mapping[str, Any]) -> Share | None:
    return Share(config["candidate"], config["step"], tuple(config["folds"])) if "folds" in config else None


class SearchTrial(tune.Trainable):
    """A trial; its process goes on to the next candidate when it is through with one."""

    def setup(self, config: dict[str, Any], plan: Plan, candidates: Candidates) -> None:
        """Begin with the first candidate."""
        os.environ.setdefault("RAY_TQDM_PATCH_PRINT", "0")
        keep_matrices()
        self._plan, self._candidates = plan, candidates
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Go on to another candidate."""
        self._begin(new_config)
        return True

    def _begin(self, config: Mapping[str, Any], done: Outcome | None = None) -> None:
        candidate = self._candidates.of(config)
        self._run = CandidateRun(
            self._plan, candidate.params, candidate.prefix, done or candidate.done, _share_of(config)
        )

    def step(self) -> dict[str, Any]:
        """One fit and its scores."""
        self._run.advance()
        time, amount = self._run.progress()
        return {
            "outcome": self._run.outcome.to_dict(),
            METRIC: self._mean(),
            TIME: time,
            AMOUNT: amount,
            STEP_COMPLETE: self._run.step_complete,
            "done": self._run.finished,
        }

    def _mean(self) -> float:
        """The mean score of the present step, over the folds that it has so far."""
        results = self._run.outcome.results
        scores = [
            None if result.scores is None else result.scores.get(self._plan.metric or METRIC)
            for result in results
            if result.step == results[-1].step
        ]
        found = [_WORST if score is None or score != score else score for score in scores]
        return sum(found) / len(found) if found else _WORST

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the fits down, for a trial that goes on elsewhere."""
        (Path(checkpoint_dir) / "outcome.json").write_text(json.dumps(self._run.outcome.to_dict()))

    def load_checkpoint(self, checkpoint: str) -> None:
        """Go on behind fits that were written down."""
        values = json.loads((Path(checkpoint) / "outcome.json").read_text())
        self._begin(self.config, Outcome.from_dict(values))
