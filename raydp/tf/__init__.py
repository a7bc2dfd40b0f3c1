"""Keras models on Spark DataFrames and Ray Datasets, with RayDP's arguments."""

from raydp.tf.estimator import TFEstimator

__all__ = ["TFEstimator"]
