"""PyTorch models on Spark DataFrames and Ray Datasets, with RayDP's arguments."""

from raydp.torch.estimator import TorchEstimator

__all__ = ["TorchEstimator"]
