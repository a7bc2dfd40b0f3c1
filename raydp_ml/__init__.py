"""Spark inside Ray, feeding scikit-learn-style distributed training.

Public names are loaded when they are first used, so that ``import raydp_ml`` stays fast and pulls in neither Spark,
Ray nor a training library.
"""

from raydp_ml.lazy import lazy_names

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
    "Callback": "raydp_ml.estimators.callbacks",
    "EarlyStopping": "raydp_ml.estimators.callbacks",
    "plot_history": "raydp_ml.estimators.history_plot",
    "SparkRayPipeline": "raydp_ml.pipeline",
    "LocalPipeline": "raydp_ml.serving.local_pipeline",
    "GridSearch": "raydp_ml.search.grid",
    "RandomizedSearch": "raydp_ml.search.randomized",
    "plot_search": "raydp_ml.search.plot",
    "feature": "raydp_ml.feature",  # the module itself
    "load": "raydp_ml.persistence",
    "show_versions": "raydp_ml.versions",
    "enable_logging": "raydp_ml.logs",
    "NotFittedError": "raydp_ml.estimators.base",
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


__getattr__, __dir__ = lazy_names(__name__, _HOME)
