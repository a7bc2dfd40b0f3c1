"""XGBoost on Spark DataFrames and Ray Datasets, with RayDP's arguments."""

from raydp.xgboost.estimator import XGBoostEstimator

__all__ = ["XGBoostEstimator"]
