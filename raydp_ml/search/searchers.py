"""Searchers of Ray Tune, which choose each candidate by the scores of those before."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from ray import tune
from ray.tune.search import Searcher
from ray.tune.search.sample import Domain

from raydp_ml.errors import InvalidTypeError, InvalidValueError, MissingDependencyError
from raydp_ml.search.trainable import METRIC, Candidate

__all__ = ["Space", "Suggested", "Suggesting", "searcher_of"]


@dataclass(frozen=True)
class Space:
    """What the parameter ``param_distributions`` is to a searcher.

    Lists are searched by the positions of their values, so that these may be anything.

    Parameters
    ----------
    domains : dict
        Search space of Ray Tune by parameter.
    lists : dict
        The values of those that are lists.
    """

    domains: dict[str, Any]
    lists: dict[str, list[Any]]

    @classmethod
    def of(cls, distributions: Any) -> Space:
        """The space of a dict of distributions.

        Raises
        ------
        InvalidTypeError
            For a distribution that cannot be told to a searcher.

        Examples
        --------
        >>> space = Space.of({"eta": [0.1, 0.3]})
        >>> space.values({"eta": 1})
        {'eta': 0.3}
        """
        if not isinstance(distributions, Mapping):
            raise InvalidTypeError("with search_alg, param_distributions must be one dict, not a list of them")
        domains: dict[str, Any] = {}
        lists: dict[str, list[Any]] = {}
        for name, value in distributions.items():
            if isinstance(value, Domain):
                domains[name] = value
            elif hasattr(value, "rvs"):
                domains[name] = _domain_of(name, value)
            else:
                lists[name] = list(value)
                domains[name] = tune.choice(list(range(len(lists[name]))))
        return cls(domains, lists)

    def values(self, picks: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters of what a searcher picked."""
        return {name: self.lists[name][pick] if name in self.lists else pick for name, pick in picks.items()}


def _domain_of(name: str, distribution: Any) -> Any:
    """A scipy distribution as a search space of Ray Tune."""
    kind = getattr(getattr(distribution, "dist", None), "name", type(distribution).__name__)
    low, high = distribution.support() if hasattr(distribution, "support") else (np.nan, np.nan)
    if kind == "uniform":
        return tune.uniform(float(low), float(high))
    if kind in ("loguniform", "reciprocal"):
        return tune.loguniform(float(low), float(high))
    if kind == "randint":
        return tune.randint(int(low), int(high) + 1)
    if kind == "norm":
        return tune.randn(float(distribution.mean()), float(distribution.std()))
    raise InvalidTypeError(
        f"search_alg cannot be told the distribution {kind} of {name!r}; give a list of values, scipy's uniform, loguniform, "
        "randint or norm, or a search space of Ray Tune such as tune.loguniform(0.01, 1)"
    )


def searcher_of(value: Any, seed: int | None) -> Searcher:
    """The searcher that the parameter ``search_alg`` stands for.

    Parameters
    ----------
    value : "optuna" or ray.tune.search.Searcher
        What the user gave.
    seed : int or None
        Seed of the sampler, for one that is named.

    Raises
    ------
    MissingDependencyError
        When the library of the one that is named is not installed.
    """
    if isinstance(value, Searcher):
        return copy.deepcopy(value)  # it learns from the search, and what the user gave stays as it is
    if value == "optuna":
        try:
            import_module("optuna")
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                "search_alg='optuna' needs the package optuna, which is not installed: pip install optuna"
            ) from error
        from ray.tune.search.optuna import OptunaSearch

        return OptunaSearch(seed=seed)
    if isinstance(value, str):
        raise InvalidValueError(f"search_alg={value!r} must be 'optuna', a searcher of Ray Tune, or None")
    raise InvalidTypeError(f"search_alg must be 'optuna' or a ray.tune.search.Searcher, got {value!r}")


@dataclass(frozen=True)
class Suggested:
    """Candidates that a searcher suggests one by one, found by what it picked."""

    space: Space
    own: Callable[[dict[str, Any]], dict[str, Any]]

    def of(self, config: Mapping[str, Any]) -> Candidate:
        """The candidate of a trial's configuration, which has its number, its prefix and the picks."""
        return Candidate(config["candidate"], self.own(self.space.values(config["picks"])), config["prefix"])


class Suggesting(Searcher):
    """Asks a searcher of the user, and tells the search what it suggests.

    Parameters
    ----------
    inner : Searcher
        Chooses.
    space : Space
        From this.
    register : callable
        Takes the parameters of a new candidate, and returns its number and that of its Spark steps.
    """

    def __init__(self, inner: Searcher, space: Space, register: Callable[[dict[str, Any]], tuple[int, int]]) -> None:
        super().__init__(metric=METRIC, mode="max")
        self.inner, self._space, self._register = inner, space, register
        if not inner.set_search_properties(METRIC, "max", space.domains):
            raise InvalidValueError(
                f"search_alg={type(inner).__name__} has a space or a metric of its own; leave space, metric and mode out, the "
                "search gives param_distributions and its score"
            )

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """The inner one has the space and the score already."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """The configuration of a new trial."""
        picks = self.inner.suggest(trial_id)
        if picks is None or picks == Searcher.FINISHED:
            return picks
        number, prefix = self._register(self._space.values(picks))
        return {"candidate": number, "prefix": prefix, "picks": picks}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A trial made a fit."""
        self.inner.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A trial ended."""
        self.inner.on_trial_complete(trial_id, result, error)

    def save(self, checkpoint_path: str) -> None:
        """Write the inner one's state down."""
        self.inner.save(checkpoint_path)

    def restore(self, checkpoint_path: str) -> None:
        """Read the inner one's state."""
        self.inner.restore(checkpoint_path)
