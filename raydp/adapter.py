"""What the three estimators of RayDP share here: arguments handed on to an estimator of raydp_ml."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

from raydp.estimator import EstimatorInterface
from raydp.spark.interfaces import SparkEstimatorInterface


class EstimatorAdapter(EstimatorInterface, SparkEstimatorInterface):
    """An estimator with RayDP's methods over one of raydp_ml.

    Parameters
    ----------
    kind : type
        The estimator class of raydp_ml.
    settings : mapping
        Its arguments.
    extra : mapping
        Further arguments of the caller: those that ``kind`` knows are handed on, the others do nothing, as in RayDP, with a
        warning where they ask for something.

    Attributes
    ----------
    estimator : estimator of raydp_ml or None
        What ``fit`` and ``fit_on_spark`` trained, with ``predict``, ``score`` and ``save``.
    """

    def __init__(self, kind: type, settings: Mapping[str, Any], extra: Mapping[str, Any]) -> None:
        known = inspect.signature(kind).parameters
        without_effect = sorted(name for name, value in extra.items() if name not in known and value)
        if without_effect:
            warnings.warn(f"{type(self).__name__} ignores {', '.join(without_effect)}", stacklevel=3)
        self._kind = kind
        self._settings = {**settings, **{name: value for name, value in extra.items() if name in known}}
        if self._settings.get("scaling_config") is not None:
            self._settings["num_workers"] = None  # the configuration says how many
        self.estimator: Any = None

    def _make(self, **settings: Any) -> Any:
        estimator = self._kind(**{**self._settings, **settings})
        if estimator.inferred_task() is None:
            estimator.set_params(task="regression")  # RayDP's labels are numbers
        return estimator

    def fit(self, train_ds: Any, evaluate_ds: Any = None, max_retries: int = 3) -> Any:
        """Train on a Ray Dataset.

        Parameters
        ----------
        train_ds : ray.data.Dataset
            Features and label.
        evaluate_ds : ray.data.Dataset, optional
            What the model is evaluated on after each epoch.
        max_retries : int, default 3
            How often training starts again when a worker dies.

        Returns
        -------
        self
        """
        self.estimator = self._make(validation=evaluate_ds, max_retries=max_retries).fit(train_ds)
        return self

    def fit_on_spark(
        self,
        train_df: Any,
        evaluate_df: Any = None,
        max_retries: int = 3,
        fs_directory: str | None = None,
        compression: str | None = None,
        stop_spark_after_conversion: bool = False,
    ) -> Any:
        """Train on a Spark DataFrame.

        Parameters
        ----------
        train_df : pyspark.sql.DataFrame or pyspark.pandas.DataFrame
            Features and label.
        evaluate_df : pyspark.sql.DataFrame or pyspark.pandas.DataFrame, optional
            What the model is evaluated on after each epoch.
        max_retries : int, default 3
            How often training starts again when a worker dies.
        fs_directory : str, optional
            Hand the rows over as Parquet files below this folder instead of through the object store.
        compression : str, optional
            Codec of these files.
        stop_spark_after_conversion : bool, default False
            Stop Spark before training, so that its CPUs are free.

        Returns
        -------
        self
        """
        self.estimator = self._make().fit_on_spark(
            train_df,
            evaluate_df,
            fs_directory=fs_directory,
            compression=compression,
            max_retries=max_retries,
            stop_spark_after_conversion=stop_spark_after_conversion,
        )
        return self

    def get_model(self) -> Any:
        """The trained model, of the library that trained it."""
        return (self.estimator or self._make()).get_model()
