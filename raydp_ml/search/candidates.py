"""The candidates of a search: whether the estimator takes their parameters, and which of them share Spark steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.base import clone

from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.base import EstimatorBase
from raydp_ml.pipeline.pipeline import SparkRayPipeline
from raydp_ml.pipeline.steps import step_of
from raydp_ml.search.folds.columns import column_params
from raydp_ml.search.folds.fitted import same
from raydp_ml.search.folds.pipeline import PipelineSource

__all__ = ["PrefixTable", "check_candidates", "concerns", "with_params"]


def with_params(estimator: Any, params: Mapping[str, Any]) -> Any:
    """A new estimator with a candidate's parameters.

    Values are cloned as scikit-learn does, because an estimator among them may be shared by several candidates.

    Parameters
    ----------
    estimator : estimator
        What is searched; it stays as it is.
    params : mapping
        The parameters; whole steps are replaced before parameters of steps are set.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> with_params(LogisticRegression(), {"C": 2.0})
    LogisticRegression(C=2.0)
    """
    new = clone(estimator)
    steps = set(new.named_steps) if isinstance(new, SparkRayPipeline) else set()
    return new.set_params(
        # Stages of Spark ML hold on to their JVM, so that only they themselves can copy them.
        **{name: step_of(value).copy() if name in steps else clone(value, safe=False) for name, value in params.items()}
    )


def check_candidates(estimator: Any, candidates: Sequence[Mapping[str, Any]], argument: str) -> None:
    """Raise for parameters that the estimator does not have, before anything is fitted.

    Parameters
    ----------
    estimator : estimator
        What is searched.
    candidates : sequence of mapping
        Parameters of each candidate.
    argument : str
        Where the user gave them.
    """
    known = estimator.get_params(deep=True)
    tried: set[tuple[Any, ...]] = set()
    for params in candidates:
        for name in params:
            if name.rpartition("__")[2] == "label_column":
                raise InvalidValueError(f"{argument} holds {name!r}: candidates with other labels cannot be compared")
        # A step that is replaced decides on its parameters, and estimators may take names that they do not list.
        unlisted = [name for name in params if name not in known]
        replaced = tuple(id(value) for name, value in params.items() if "__" not in name)
        kind = (tuple(params), replaced)
        if kind in tried or (not unlisted and not isinstance(estimator, SparkRayPipeline)):
            continue
        tried.add(kind)
        try:
            with_params(estimator, params)
        except (ValueError, TypeError) as error:
            shown = ", ".join(map(repr, unlisted or params))
            raise InvalidValueError(f"{argument} holds {shown}: {error}") from error


def concerns(key: str, name: str) -> bool:
    """Whether a parameter is the step of this name or one of the step's.

    Examples
    --------
    >>> concerns("model__eta", "model"), concerns("models", "model")
    (True, False)
    """
    return key == name or key.startswith(name + "__")


class PrefixTable:
    """Numbers the Spark prefixes of candidates: those that agree in all Spark steps, and in the columns and their types, share one.

    Parameters
    ----------
    pipeline : SparkRayPipeline
        What is searched.
    source : PipelineSource
        Where new prefixes are added.
    """

    def __init__(self, pipeline: SparkRayPipeline, source: PipelineSource) -> None:
        self._pipeline, self._source = pipeline, source
        self._known: list[tuple[dict[str, Any], int]] = []
        self._name = pipeline.steps[-1][0]

    def number(self, params: Mapping[str, Any]) -> int:
        """The prefix of a candidate.

        Parameters
        ----------
        params : mapping
            Parameters of the candidate.
        """
        before = {key: value for key, value in params.items() if not concerns(key, self._name)}
        estimator = self.estimator(params)
        columns = {f"{self._name}__{key}": value for key, value in column_params(estimator).items()}
        model = estimator.names_of_model() if isinstance(estimator, EstimatorBase) else None
        mine = {**before, **columns, self._name: model}
        for other, number in self._known:
            if mine.keys() == other.keys() and all(same(value, other[key]) for key, value in mine.items()):
                return number

        def build() -> tuple[list[Any], Any]:
            return with_params(self._pipeline, before).split_steps()[0], estimator

        number = self._source.add(build)
        self._known.append((mine, number))
        return number

    def estimator(self, params: Mapping[str, Any]) -> Any:
        """The estimator of a candidate, without the steps before it."""
        own = {key: value for key, value in params.items() if concerns(key, self._name)}
        return with_params(self._pipeline, own).final_estimator
