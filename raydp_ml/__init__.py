"""Spark inside Ray, feeding scikit-learn-style distributed training.

Public names are loaded when they are first used, so that ``import raydp_ml`` stays fast and pulls in neither Spark,
Ray nor a training library.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0.dev0"

# The one list of public names: where each of them is defined.
_HOME = {
    "init_spark": "raydp_ml.session",
    "stop_spark": "raydp_ml.session",
    "spark_info": "raydp_ml.session",
    "from_spark": "raydp_ml.exchange",
    "read_spark": "raydp_ml.exchange",
    "to_spark": "raydp_ml.exchange",
    "from_spark_recoverable": "raydp_ml.exchange",
    "release_spark_recoverable": "raydp_ml.exchange",
    "TorchEstimator": "raydp_ml.estimators.torch",
    "TFEstimator": "raydp_ml.estimators.tf",
    "XGBEstimator": "raydp_ml.estimators.xgb",
    "SparkRayPipeline": "raydp_ml.pipeline",
    "GridSearch": "raydp_ml.search",
    "feature": "raydp_ml.feature",  # the module itself
    "load": "raydp_ml.persistence",
    "show_versions": "raydp_ml.versions",
    "RaydpMLError": "raydp_ml.errors",
    "InvalidValueError": "raydp_ml.errors",
    "InvalidTypeError": "raydp_ml.errors",
    "ResourceTimeoutError": "raydp_ml.errors",
    "SessionStoppedError": "raydp_ml.errors",
    "ExecutorStartError": "raydp_ml.errors",
    "BlockLostError": "raydp_ml.errors",
    "MissingDependencyError": "raydp_ml.errors",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'raydp_ml' has no attribute {name!r}")
    module = import_module(_HOME[name])
    value = module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
