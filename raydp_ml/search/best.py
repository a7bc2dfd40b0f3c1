"""What a fitted search passes on to its best estimator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from raydp_ml.pipeline.pipeline import SparkRayPipeline
from raydp_ml.search.scoring import own_score, score_frame

__all__ = ["BestEstimator"]


def _best_has(method: str) -> Callable[[Any], bool]:
    def check(search: Any) -> bool:
        getattr(search.best_estimator_ if hasattr(search, "best_estimator_") else search.estimator, method)
        return True

    return check


class BestEstimator:
    """Methods and attributes of ``best_estimator_``, each there when it has them."""

    estimator: Any
    refit: Any
    scorer_: Any
    multimetric_: bool
    best_estimator_: Any

    def _best(self) -> Any:
        check_is_fitted(self)
        if not hasattr(self, "best_estimator_"):
            why = "has refit=False" if not self.refit else "was interrupted"
            raise AttributeError(f"the search {why}, so there is no best_estimator_; fit with refit=True")
        return self.best_estimator_

    @available_if(_best_has("predict"))
    def predict(self, X: Any) -> Any:
        """Predict with the best estimator."""
        return self._best().predict(X)

    @available_if(_best_has("predict_proba"))
    def predict_proba(self, X: Any) -> Any:
        """Predict class probabilities with the best estimator."""
        return self._best().predict_proba(X)

    @available_if(_best_has("predict_log_proba"))
    def predict_log_proba(self, X: Any) -> Any:
        """Predict logarithms of class probabilities with the best estimator."""
        return self._best().predict_log_proba(X)

    @available_if(_best_has("decision_function"))
    def decision_function(self, X: Any) -> Any:
        """The decision function of the best estimator."""
        return self._best().decision_function(X)

    @available_if(_best_has("transform"))
    def transform(self, X: Any) -> Any:
        """Transform with the best estimator."""
        return self._best().transform(X)

    @available_if(_best_has("inverse_transform"))
    def inverse_transform(self, X: Any) -> Any:
        """Undo the transformation of the best estimator."""
        return self._best().inverse_transform(X)

    @available_if(_best_has("evaluate"))
    def evaluate(self, X: Any, y: Any = None) -> dict[str, float]:
        """Loss and metrics of the best estimator."""
        found: dict[str, float] = self._best().evaluate(X) if y is None else self._best().evaluate(X, y)
        return found

    def score(self, X: Any, y: Any = None) -> float:
        """The search's score (``scoring``) of the best estimator.

        Parameters
        ----------
        X : frame or array
            Rows, with labels when ``y`` is not given.
        y : array-like, optional
            Labels.

        Returns
        -------
        float
            The score; of several the one that ``refit`` names.
        """
        best = self._best()
        scorer: Any = self.scorer_
        if isinstance(scorer, Mapping) and isinstance(self.refit, str):
            scorer = scorer[self.refit]
        if scorer is own_score or isinstance(scorer, Mapping):
            return own_score(best, X, y)
        arrays = y is not None and not isinstance(best, SparkRayPipeline)
        value = scorer(best, X, y) if arrays else score_frame(scorer, best, X, y)
        return float(value[self.refit] if isinstance(value, Mapping) else value)

    @property
    def classes_(self) -> Any:
        """Class labels of the best classifier."""
        return self._best().classes_

    @property
    def n_features_in_(self) -> int:
        """Number of features of the best estimator."""
        return int(self._best().n_features_in_)

    @property
    def feature_names_in_(self) -> Any:
        """Names of the features of the best estimator."""
        return self._best().feature_names_in_
