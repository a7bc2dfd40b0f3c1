"""What an estimator that trains on Ray Datasets offers."""

from abc import ABC, abstractmethod
from typing import Any


class EstimatorInterface(ABC):
    """An estimator with ``fit`` and ``get_model``."""

    @abstractmethod
    def fit(self, train_ds: Any, evaluate_ds: Any = None) -> Any:
        """Train on a Ray Dataset.

        Parameters
        ----------
        train_ds : ray.data.Dataset
            Features and label.
        evaluate_ds : ray.data.Dataset, optional
            What the model is evaluated on while it trains.
        """

    @abstractmethod
    def get_model(self) -> Any:
        """The trained model, of the library that trained it."""
