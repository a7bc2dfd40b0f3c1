"""What a fitted XGBEstimator gives besides predictions and probabilities: other outputs of its trees, and the trees themselves."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, cast

import numpy as np

from raydp_ml.estimators.base import EstimatorBase
from raydp_ml.estimators.xgb.fitted import XGBFitted
from raydp_ml.estimators.xgb.sklearn_face import as_sklearn

__all__ = ["FittedTrees"]


class FittedTrees(EstimatorBase):
    """The part of XGBEstimator that is there for fitted ones."""

    margin_column: str
    leaf_column: str
    contribution_column: str

    @abstractmethod
    def _xgboost_params(self) -> dict[str, Any]:
        """The parameters of training, by xgboost's names."""

    def predict_margin(self, X: Any) -> Any:
        """Predict raw margins: what the trees add up to, before it becomes a probability or a value.

        Parameters
        ----------
        X
            As for :meth:`predict`.

        Returns
        -------
        Same kind as X, or numpy.ndarray
            As :meth:`predict`, with the column ``margin_column``: a number, or one for each class or label.
        """
        return self._predict_input(X, "margin", self.margin_column)

    def apply(self, X: Any) -> Any:
        """Find the leaf of each tree that a row falls into.

        Parameters
        ----------
        X
            As for :meth:`predict`.

        Returns
        -------
        Same kind as X, or numpy.ndarray of int32 of shape (rows, trees)
            As :meth:`predict`, with the array column ``leaf_column``.
        """
        return self._predict_input(X, "leaf", self.leaf_column)

    def predict_contributions(self, X: Any) -> Any:
        """Predict how much each feature contributes to the margin of a row: SHAP values by xgboost's TreeSHAP.

        Parameters
        ----------
        X
            As for :meth:`predict`.

        Returns
        -------
        Same kind as X, or numpy.ndarray of shape (rows, features + 1)
            As :meth:`predict`, with the array column ``contribution_column``. The last entry is the bias; a row's sum is its
            margin. With several classes or labels an array for each of them.

        Examples
        --------
        >>> import numpy as np
        >>> from raydp_ml import XGBEstimator
        >>> X = np.arange(20.0).reshape(-1, 1)
        >>> est = XGBEstimator(task="regression", num_boost_round=5, verbose=False).fit(X, X[:, 0])
        >>> bool(np.allclose(est.predict_contributions(X).sum(axis=1), est.predict(X), atol=1e-5))
        True
        """
        return self._predict_input(X, "contributions", self.contribution_column)

    # -- fitted state ----------------------------------------------------------------------------------------------

    def get_booster(self) -> Any:
        """The fitted booster, as ``model_``, which names its features as the columns of frames are called."""
        return self.get_model()

    @property
    def feature_importances_(self) -> np.ndarray:
        """The mean gain of the splits on each column of the matrix, summing to 1; coefficients of a linear booster."""
        fitted = cast(XGBFitted, self._learnt.fitted) if self._learnt is not None else None
        if fitted is None:
            raise AttributeError(f"this {type(self).__name__} has no feature_importances_ yet: call fit first")
        booster = fitted.booster
        names = booster.feature_names or [f"f{place}" for place in range(booster.num_features())]
        found = booster.get_score(importance_type="weight" if fitted.linear else "gain")
        importances = np.array([found.get(name, 0.0) for name in names], np.float32)
        total = importances.sum()
        return importances if fitted.linear or not total else importances / total

    @property
    def best_iteration_(self) -> int:
        """The best round of early stopping, counted from 0."""
        return int(self._noted("best_iteration"))

    @property
    def best_score_(self) -> float:
        """The metric of the best round of early stopping."""
        return float(self._noted("best_score"))

    def _noted(self, name: str) -> str:
        value = None if self._learnt is None else self.get_model().attr(name)
        if value is None:
            raise AttributeError(f"{name}_ is known after a fit with early_stopping_rounds")
        return str(value)

    def to_sklearn(self) -> Any:
        """The fitted model as xgboost's own estimator for scikit-learn.

        Returns
        -------
        xgboost.XGBClassifier, xgboost.XGBRegressor or xgboost.XGBRanker
            By the task. It is given matrices of the features in order, and a classifier predicts positions in ``classes_``.
        """
        learnt = self._require_learnt()
        return as_sklearn(learnt.task, self.get_model(), self._xgboost_params())
