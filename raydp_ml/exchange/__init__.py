"""Spark DataFrames to Ray Datasets and back."""

from importlib import import_module
from typing import Any

# Loaded when they are used: actors that only hold an executor or blocks start faster without ray.data.
_HOME = {
    "from_spark": "raydp_ml.exchange.outbound",
    "from_spark_recoverable": "raydp_ml.exchange.outbound",
    "read_spark": "raydp_ml.exchange.streaming",
    "release_spark_recoverable": "raydp_ml.exchange.outbound",
    "to_spark": "raydp_ml.exchange.inbound",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'raydp_ml.exchange' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
