"""SparkRayPipeline: Spark ML stages, SQL and functions, then an estimator, as one scikit-learn object."""

from typing import TYPE_CHECKING

from raydp_ml.lazy import lazy_names

if TYPE_CHECKING:
    from raydp_ml.pipeline.collected import CollectedEstimator as CollectedEstimator
    from raydp_ml.pipeline.pipeline import SparkRayPipeline as SparkRayPipeline

_HOME = {
    "CollectedEstimator": "raydp_ml.pipeline.collected",
    "SparkRayPipeline": "raydp_ml.pipeline.pipeline",
}

__all__ = ["CollectedEstimator", "SparkRayPipeline"]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
