"""A pickled object on its way to Spark's Python workers."""

from __future__ import annotations

import pickle
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from raydp_ml.exchange.connect import is_connect

if TYPE_CHECKING:
    import pyspark.sql

__all__ = ["Payload"]


@lru_cache(maxsize=4)
def _unpickle(content: bytes) -> Any:
    return pickle.loads(content)


class Payload:
    """A Spark broadcast of a pickled object, or with Spark Connect its bytes themselves.

    Parameters
    ----------
    frame : pyspark.sql.DataFrame
        Any frame of the session.
    content : bytes
        The pickled object.
    """

    def __init__(self, frame: pyspark.sql.DataFrame, content: bytes) -> None:
        classic = not is_connect(frame)
        self._broadcast = frame.sparkSession.sparkContext.broadcast(content) if classic else None
        self._content = None if classic else content

    def value(self) -> Any:
        """The object; each Python worker unpickles it once."""
        return _unpickle(self._broadcast.value if self._broadcast is not None else self._content)
