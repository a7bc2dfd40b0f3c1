"""RayDP's XGBoostEstimator over raydp_ml's XGBEstimator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raydp.adapter import EstimatorAdapter


class XGBoostEstimator(EstimatorAdapter):
    """Gradient boosting with RayDP's arguments; :class:`raydp_ml.XGBEstimator` has more.

    Parameters
    ----------
    xgboost_params : mapping
        Training parameters of xgboost.
    label_column : str
        The label. All other numeric and vector columns are features.
    num_workers : int, default 1
        Ray Train workers.
    resources_per_worker : dict, optional
        Ray resources of each worker.
    shuffle : bool, default True
        Accepted for RayDP's programs: the trees do not depend on the order of the rows.
    num_boost_round : int, default 10
        Number of trees, or of sets of trees with several classes.
    **extra
        Further arguments of :class:`raydp_ml.XGBEstimator`.

    Examples
    --------
    >>> XGBoostEstimator({"objective": "reg:squarederror", "max_depth": 3}, "price").estimator is None
    True
    """

    def __init__(
        self,
        xgboost_params: Mapping[str, Any],
        label_column: str,
        num_workers: int = 1,
        resources_per_worker: dict[str, float] | None = None,
        shuffle: bool = True,
        num_boost_round: int = 10,
        **extra: Any,
    ) -> None:
        from raydp_ml import XGBEstimator

        settings = {
            "params": dict(xgboost_params),
            "label_column": label_column,
            "num_workers": num_workers,
            "resources_per_worker": resources_per_worker,
            "num_boost_round": num_boost_round,
        }
        super().__init__(XGBEstimator, settings, extra)
