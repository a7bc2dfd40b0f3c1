"""The Spark session that a pipeline runs in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from raydp_ml.cluster.spark_seam import active_context
from raydp_ml.errors import InvalidTypeError, SessionStoppedError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["running_session", "session_runs"]


def running_session(arguments: Any) -> SparkSession:
    """The session that runs in this process, or a new one.

    Parameters
    ----------
    arguments : dict or None
        Arguments of :func:`raydp_ml.init_spark`; None: no session is started.

    Returns
    -------
    pyspark.sql.SparkSession
        The session.

    Raises
    ------
    SessionStoppedError
        When none runs and none is to be started.
    """
    from pyspark.sql import SparkSession

    active = SparkSession.getActiveSession()
    if active is not None:
        return active
    if active_context() is not None:
        return SparkSession.builder.getOrCreate()
    if arguments is None:
        raise SessionStoppedError(
            "there is no Spark session: call raydp_ml.init_spark(...) first, or give the pipeline its arguments as "
            "spark=dict(num_executors=2, ...)"
        )
    if not isinstance(arguments, Mapping):
        raise InvalidTypeError(f"spark must be a dict of init_spark's arguments, got {arguments!r}")
    from raydp_ml.session import init_spark

    return init_spark(**arguments)


def session_runs() -> bool:
    """Whether a Spark session runs in this process.

    Examples
    --------
    >>> session_runs() in (True, False)
    True
    """
    return active_context() is not None
