"""TorchEstimator: PyTorch models."""

from typing import TYPE_CHECKING

from raydp_ml.lazy import lazy_names

if TYPE_CHECKING:
    from raydp_ml.estimators.torch.estimator import TorchEstimator as TorchEstimator

_HOME = {
    "TorchEstimator": "raydp_ml.estimators.torch.estimator",
}

__all__ = ["TorchEstimator"]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
