"""Predictions without Spark: what a fitted Spark ML stage does to a row, on numpy and Arrow columns in this process.

Only :mod:`raydp_ml.serving.extraction` knows Spark; it reads the values of a fitted stage once. Everything else here imports
numpy and pyarrow alone.
"""
