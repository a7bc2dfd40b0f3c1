"""TorchEstimator: PyTorch models; and TrainingLoop, for loops of one's own."""

from typing import TYPE_CHECKING

from raydp_ml.lazy import lazy_names

if TYPE_CHECKING:
    from raydp_ml.estimators.torch.estimator import TorchEstimator as TorchEstimator
    from raydp_ml.estimators.torch.loop import TrainingLoop as TrainingLoop

_HOME = {
    "TorchEstimator": "raydp_ml.estimators.torch.estimator",
    "TrainingLoop": "raydp_ml.estimators.torch.loop",
}

__all__ = ["TorchEstimator", "TrainingLoop"]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
