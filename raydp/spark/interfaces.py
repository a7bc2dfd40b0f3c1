"""What an estimator that trains on Spark DataFrames offers."""

from abc import ABC, abstractmethod
from typing import Any


class SparkEstimatorInterface(ABC):
    """An estimator with ``fit_on_spark``."""

    @abstractmethod
    def fit_on_spark(self, train_df: Any, evaluate_df: Any = None) -> Any:
        """Train on a Spark DataFrame.

        Parameters
        ----------
        train_df : pyspark.sql.DataFrame or pyspark.pandas.DataFrame
            Features and label.
        evaluate_df : pyspark.sql.DataFrame or pyspark.pandas.DataFrame, optional
            What the model is evaluated on while it trains.
        """
