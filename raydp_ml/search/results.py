"""What a search makes of the outcomes of its candidates: scikit-learn's table of results, and what failed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raydp_ml.search.scoring import SINGLE
from raydp_ml.search.trial import FoldResult, Outcome

__all__ = ["Failures", "cv_results", "failures_of", "learning_curves", "metric_names", "param_columns"]


@dataclass(frozen=True)
class Failures:
    """What failed: the candidates, how many of their fits, and what the first one said."""

    candidates: list[int]
    fits: int
    first: str


def metric_names(outcomes: Sequence[Outcome]) -> list[str]:
    """The names of the scores, which a scorer that gives a dict tells when it has been called."""
    for outcome in outcomes:
        for result in outcome.results:
            if result.scores is not None:
                return list(result.scores)
    return [SINGLE]


def failures_of(outcomes: Sequence[Outcome], n_splits: int) -> Failures | None:
    """What failed in the fits that count; None when nothing did.

    Parameters
    ----------
    outcomes : sequence of Outcome
        One per candidate.
    n_splits : int
        Number of folds.
    """
    texts: dict[int, list[str]] = {}
    for number, outcome in enumerate(outcomes):
        table = _Counted(outcome, n_splits)
        errors = [result.error for result in table.results if result is not None and result.error is not None]
        missing = table.results.count(None)
        errors += [outcome.problem or "the search was stopped before the candidate was tried on all folds"] * missing
        if errors:
            texts[number] = errors
    if not texts:
        return None
    return Failures(list(texts), sum(map(len, texts.values())), next(iter(texts.values()))[0])


class _Counted:
    """The fits of an outcome that its scores are taken from: those at the largest budget that all folds have."""

    def __init__(self, outcome: Outcome, n_splits: int) -> None:
        step = outcome.last_step(n_splits)
        by_fold = outcome.of_step(step)
        self.results: list[FoldResult | None] = [by_fold.get(fold) for fold in range(n_splits)]
        # 0 for a candidate that had all its epochs or rounds, less the earlier it was stopped.
        self.level = step - (outcome.steps - 1)
        self.resource = next((result.resource for result in by_fold.values()), None)

    def values(self, read: Any, missing: float) -> list[float]:
        """A number of each fit."""
        found = [None if result is None else read(result) for result in self.results]
        return [missing if value is None else value for value in found]


def cv_results(
    candidates: Sequence[Mapping[str, Any]],
    outcomes: Sequence[Outcome],
    *,
    n_splits: int,
    error_score: Any,
    train_scores: bool,
    in_steps: bool,
) -> dict[str, Any]:
    """The table of results in scikit-learn's layout.

    Parameters
    ----------
    candidates : sequence of mapping
        Parameters.
    outcomes : sequence of Outcome
        What the fits of each gave.
    n_splits : int
        Number of folds.
    error_score : "raise" or float
        What a fit without a score counts as.
    train_scores : bool
        Whether to have the columns of training scores.
    in_steps : bool
        Whether a scheduler stopped candidates: then ``n_resources`` has the epochs or rounds that the scores are of, and candidates
        that were stopped earlier rank behind those that were not.
    """
    lost = np.nan if error_score == "raise" else float(error_score)
    tables = [_Counted(outcome, n_splits) for outcome in outcomes]
    results: dict[str, Any] = {}
    for name, read in (("fit_time", lambda result: result.fit_time), ("score_time", lambda result: result.score_time)):
        times = np.array([table.values(read, 0.0) for table in tables])
        results[f"mean_{name}"], results[f"std_{name}"] = times.mean(axis=1), times.std(axis=1)
    results.update(param_columns(candidates))
    results["params"] = [dict(params) for params in candidates]
    if in_steps:
        results["n_resources"] = np.array([table.resource or 0 for table in tables])
    for metric in metric_names(outcomes):
        test = np.array(
            [table.values(lambda r, m=metric: None if r.scores is None else r.scores.get(m), lost) for table in tables]
        )
        _add_scores(results, f"test_{metric}", test)
        results[f"rank_test_{metric}"] = _ranks(test.mean(axis=1), [table.level for table in tables])
        if train_scores:
            train = np.array(
                [
                    table.values(lambda r, m=metric: None if r.train_scores is None else r.train_scores.get(m), lost)
                    for table in tables
                ]
            )
            _add_scores(results, f"train_{metric}", train)
    return results


def param_columns(candidates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The columns of parameter values, masked where a candidate does not have one.

    Examples
    --------
    >>> param_columns([{"a": 1}, {"b": 2}])["param_a"].tolist()
    [1, None]
    """
    columns: dict[str, np.ma.MaskedArray] = defaultdict(
        lambda: np.ma.MaskedArray(np.empty(len(candidates), dtype=object), mask=True)
    )
    for number, params in enumerate(candidates):
        for name, value in params.items():
            columns[f"param_{name}"][number] = value
    return dict(columns)


def learning_curves(outcomes: Sequence[Outcome], n_splits: int, metric: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each candidate the epochs, rounds or trees of its steps, and the mean scores over the folds there.

    Parameters
    ----------
    outcomes : sequence of Outcome
        One per candidate.
    n_splits : int
        Number of folds.
    metric : str
        The score.
    """
    curves = []
    for outcome in outcomes:
        points = []
        for step in range(outcome.last_step(n_splits) + 1):
            fits = outcome.of_step(step).values()
            scores = [result.scores.get(metric, np.nan) for result in fits if result.scores is not None]
            if len(scores) == n_splits:
                points.append((next(iter(fits)).resource or 0, np.mean(scores)))
        table = np.array(points, float).reshape(-1, 2)
        curves.append((table[:, 0].astype(int), table[:, 1]))
    return curves


def _add_scores(results: dict[str, Any], name: str, scores: np.ndarray) -> None:
    for split in range(scores.shape[1]):
        results[f"split{split}_{name}"] = scores[:, split]
    results[f"mean_{name}"], results[f"std_{name}"] = scores.mean(axis=1), scores.std(axis=1)


def _ranks(means: np.ndarray, levels: Sequence[int]) -> np.ndarray:
    """Ranks from 1: candidates without a score come last, and those that were stopped behind those that were not."""
    keys = [
        (not np.isnan(mean), level, mean if not np.isnan(mean) else 0.0)
        for mean, level in zip(means, levels, strict=True)
    ]
    ordered = sorted(keys, reverse=True)
    return np.array([ordered.index(key) + 1 for key in keys], np.int32)
