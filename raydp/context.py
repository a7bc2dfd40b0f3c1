"""Start and stop of Spark on Ray, where RayDP defines them."""

from raydp_ml.session import init_spark, stop_spark

__all__ = ["init_spark", "stop_spark"]
