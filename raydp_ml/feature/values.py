"""Values of parameters: which are equal, how they are copied, and how they are written with nothing but JSON's types.

Plain values stay as they are. The others become an object with one key:

============  ============================================================================================
``$vector``   a Vector of pyspark.ml.linalg: ``values`` of a dense one, else ``size``, ``indices``, ``values``
``$matrix``   a Matrix: ``rows``, ``columns``, ``values``, ``transposed``, of a sparse one also ``starts``, ``indices``
``$stage``    a description inside a description: ``class`` and ``params``
============  ============================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from raydp_ml.errors import InvalidTypeError, InvalidValueError

__all__ = ["equal", "from_plain", "to_plain"]


def equal(one: Any, other: Any) -> bool:
    """Whether two values of a parameter are the same; not-a-number is the same as itself.

    Examples
    --------
    >>> equal([1, float("nan")], [1.0, float("nan")])
    True
    """
    from pyspark.ml.linalg import Matrix

    if one is other:
        return True
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other):
        return True
    if any(isinstance(one, kind) is not isinstance(other, kind) for kind in (bool, type(None), Matrix)):
        # True is not 1 here, and Spark's matrices fail when they are compared with anything else.
        return False
    return bool(np.all(one == other))


def to_plain(value: Any, name: str, nested: Callable[[Any], dict[str, Any] | None]) -> Any:
    """A value with nothing but JSON's types in it.

    Parameters
    ----------
    value : object
        The value of a parameter.
    name : str
        Of the parameter, for the message.
    nested : callable
        Gives the plain form of a description, and None for other objects.

    Returns
    -------
    object
        What :func:`from_plain` reads.

    Raises
    ------
    InvalidTypeError
        For a value that has no such form, a function for example.
    """
    from pyspark.ml.linalg import DenseMatrix, DenseVector, SparseMatrix, SparseVector

    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return [to_plain(item, name, nested) for item in value]
    if isinstance(value, DenseVector):
        return {"$vector": {"values": value.array.tolist()}}
    if isinstance(value, SparseVector):
        parts = {"size": value.size, "indices": value.indices.tolist(), "values": value.values.tolist()}
        return {"$vector": parts}
    if isinstance(value, DenseMatrix | SparseMatrix):
        matrix = {
            "rows": value.numRows,
            "columns": value.numCols,
            "values": value.values.tolist(),
            "transposed": bool(value.isTransposed),
        }
        if isinstance(value, SparseMatrix):
            matrix |= {"starts": value.colPtrs.tolist(), "indices": value.rowIndices.tolist()}
        return {"$matrix": matrix}
    stage = nested(value)
    if stage is None:
        raise InvalidTypeError(f"{name} is {value!r}, an object that only Python code could write down")
    return {"$stage": stage}


def from_plain(value: Any, nested: Callable[[dict[str, Any]], Any]) -> Any:
    """The value that :func:`to_plain` wrote.

    Parameters
    ----------
    value : object
        What it wrote.
    nested : callable
        Makes a description from its plain form.

    Returns
    -------
    object
        The value of a parameter.
    """
    from pyspark.ml.linalg import DenseMatrix, DenseVector, SparseMatrix, SparseVector

    if isinstance(value, list):
        return [from_plain(item, nested) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"$stage"}:
        return nested(value["$stage"])
    try:
        if set(value) == {"$vector"}:
            vector = value["$vector"]
            if "size" in vector:
                return SparseVector(vector["size"], vector["indices"], vector["values"])
            return DenseVector(vector["values"])
        if set(value) == {"$matrix"}:
            matrix = value["$matrix"]
            shape, transposed = (matrix["rows"], matrix["columns"]), matrix["transposed"]
            if "starts" in matrix:
                return SparseMatrix(*shape, matrix["starts"], matrix["indices"], matrix["values"], transposed)
            return DenseMatrix(*shape, matrix["values"], transposed)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidValueError(f"this is no vector or matrix of Spark ML as it was written: {value!r}") from error
    raise InvalidValueError(f"this is no value of a stage as it was written: {value!r}")
