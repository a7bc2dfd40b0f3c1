"""The kinds of input, in one registry.

Adding a kind means adding a subclass of :class:`~raydp_ml.frames.frame.Frame` in a file of its own, and a line in ``KINDS``. A
kind is recognised by the module of its type, so no library is imported that the user does not use.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from raydp_ml.errors import InvalidTypeError
from raydp_ml.frames.frame import Frame

__all__ = ["KINDS", "open_frame", "require_frame"]

# (start of the type's module, name of the type or None for any, where the kind is defined)
KINDS: list[tuple[str, str | None, str]] = [
    ("pyspark.sql.", "DataFrame", "raydp_ml.frames.spark:SparkFrame"),
    ("pyspark.pandas.", "DataFrame", "raydp_ml.frames.pandas_on_spark:PandasOnSparkFrame"),
    ("ray.data.", None, "raydp_ml.frames.dataset:DatasetFrame"),
    ("pandas.", "DataFrame", "raydp_ml.frames.pandas_frame:PandasFrame"),
    ("pyarrow.", "Table", "raydp_ml.frames.table:TableFrame"),
]


def open_frame(X: Any) -> Frame | None:
    """Wrap an input; None for anything that is no frame, which is then treated as an array.

    Parameters
    ----------
    X : object
        What a user gave; frames are given back as they are.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from raydp_ml.frames import open_frame
    >>> open_frame(pa.table({"a": [1.5]})).kind
    'pyarrow Table'
    >>> open_frame([[1.5]]) is None
    True
    """
    if isinstance(X, Frame):
        return X
    if isinstance(X, str | os.PathLike) or (
        isinstance(X, list | tuple) and X and all(isinstance(item, str | os.PathLike) for item in X)
    ):
        from raydp_ml.frames.path import PathFrame

        return PathFrame(X)
    for base in type(X).__mro__:
        for module, name, home in KINDS:
            if f"{base.__module__}.".startswith(module) and name in (None, base.__name__):
                where, _, kind = home.partition(":")
                opened: Frame = getattr(import_module(where), kind)(X)
                return opened
    return None


def require_frame(X: Any) -> Frame:
    """Wrap an input that must be a frame.

    Parameters
    ----------
    X : object
        What a user gave.

    Raises
    ------
    InvalidTypeError
        When it is no frame.
    """
    frame = open_frame(X)
    if frame is None:
        raise InvalidTypeError(
            "X must be a Spark, pandas-on-Spark or pandas DataFrame, a pyarrow Table, a Ray Dataset, or paths of "
            f"parquet, CSV, JSON or ORC files; got {type(X).__module__}.{type(X).__name__}"
        )
    return frame
