"""A hash of the rows of a fit, by which a checkpoint knows that it is used for the rows that it was made on."""

from __future__ import annotations

from typing import Any

import numpy as np

from raydp_ml.estimators.launch.rows import SURVEY_TASKS, Side
from raydp_ml.frames.arrays import Arrays, fetch, is_reference
from raydp_ml.frames.layouts import groups_of, is_sparse

__all__ = ["hash_of_rows"]

# Rows that are hashed at once, which bounds the memory that it takes.
_ROWS = 1 << 16
_ODD = 0x9E3779B97F4A7C15


def hash_of_rows(side: Side) -> str:
    """The number of rows and a hash of their contents, in which their order does not count: Spark may give them in another one.

    Parameters
    ----------
    side : Side
        The rows; those that lie in Ray's object store are hashed by small tasks there.
    """
    refs = [block for block in side.blocks if is_reference(block)]
    total = sum(_hash_of_arrays(block) for block in side.blocks if not is_reference(block))
    if refs:
        import ray

        task = ray.remote(num_cpus=0)(_hash_of_blocks)
        count = min(len(refs), SURVEY_TASKS)
        groups = [refs[len(refs) * n // count : len(refs) * (n + 1) // count] for n in range(count)]
        total += sum(ray.get([task.remote(group, side.selection) for group in groups]))
    return f"{sum(side.sizes)} rows {total % 2**64:016x}"


def _hash_of_blocks(refs: list[Any], selection: Any) -> int:
    return sum(_hash_of_arrays(fetch(ref, selection)) for ref in refs)


def _hash_of_arrays(arrays: Arrays) -> int:
    """The sum of the hashes of the rows.

    Examples
    --------
    >>> X = np.arange(6, dtype=np.float32).reshape(3, 2)
    >>> forwards, backwards = (_hash_of_arrays(Arrays(rows, rows[:, 0])) for rows in (X, X[::-1]))
    >>> forwards == backwards, forwards == _hash_of_arrays(Arrays(X, X[:, 1]))
    (True, False)
    """
    total = 0
    for start in range(0, len(arrays), _ROWS):
        part = arrays.take(slice(start, start + _ROWS))
        others = (part.label, part.weight, part.qid, part.base_margin, part.validation)
        columns = [column for group in _dense_groups(part.X) for column in group.T]
        columns += [column for other in others if other is not None for column in np.atleast_2d(other.T)]
        hashed = np.zeros(len(part), np.uint64)
        for number, column in enumerate(columns):
            hashed += _hashed(column) * np.uint64(_ODD * (2 * number + 1) % 2**64)
        if is_sparse(part.X):
            _add_sparse(hashed, part.X)
        hashed = (hashed ^ (hashed >> np.uint64(29))) * np.uint64(_ODD)
        total += int(hashed.sum(dtype=np.uint64))
    return total


def _dense_groups(X: Any) -> tuple[np.ndarray, ...]:
    return () if is_sparse(X) else groups_of(X)


def _hashed(values: np.ndarray) -> np.ndarray:
    import pandas as pd

    return pd.util.hash_array(np.ascontiguousarray(values), categorize=False)


def _add_sparse(hashed: np.ndarray, rows: Any) -> None:
    """Add the hashes of what is set in the rows of a compressed matrix."""
    places = np.uint64(2) * rows.indices.astype(np.uint64) + np.uint64(1)
    entries = _hashed(rows.data) * (np.uint64(_ODD) * places)
    np.add.at(hashed, np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr)), entries)
