"""XGBEstimator: gradient boosted trees by xgboost."""

from typing import TYPE_CHECKING

from raydp_ml.lazy import lazy_names

if TYPE_CHECKING:
    from raydp_ml.estimators.xgb.estimator import XGBEstimator as XGBEstimator

_HOME = {
    "XGBEstimator": "raydp_ml.estimators.xgb.estimator",
}

__all__ = ["XGBEstimator"]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
