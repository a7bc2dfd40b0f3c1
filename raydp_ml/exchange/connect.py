"""Frames and sessions of Spark Connect, recognised without importing Spark."""

from __future__ import annotations

from typing import Any

__all__ = ["is_connect"]


def is_connect(part: Any) -> bool:
    """Whether a frame or a session is one of Spark Connect, which has no JVM in this process.

    Parameters
    ----------
    part : pyspark.sql.DataFrame or pyspark.sql.SparkSession
        The frame or session.
    """
    return type(part).__module__.startswith("pyspark.sql.connect")
