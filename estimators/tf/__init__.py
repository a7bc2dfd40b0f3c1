"""TFEstimator: Keras models."""

from typing import TYPE_CHECKING

from raydp_ml.lazy import lazy_names

if TYPE_CHECKING:
    from raydp_ml.estimators.tf.estimator import TFEstimator as TFEstimator

_HOME = {
    "TFEstimator": "raydp_ml.estimators.tf.estimator",
}

__all__ = ["TFEstimator"]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
