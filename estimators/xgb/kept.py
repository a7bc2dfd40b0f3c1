"""Quantised matrices that the process of a search's trials keeps: candidates train on the same rows one after the other."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["KeptMatrices", "keep_matrices", "kept_matrices"]

# Bytes of rows, as float32, whose matrices are kept; a matrix itself has a byte for each number and more for its cuts.
_MOST_BYTES = 1 << 30


class KeptMatrices:
    """The matrices that were used last, by what they were made of.

    Parameters
    ----------
    most_bytes : int
        For how many bytes of rows matrices are kept.

    Attributes
    ----------
    made, found : int
        How many matrices were made, and how often one was there already.

    Examples
    --------
    >>> kept = KeptMatrices(1000)
    >>> rows = np.zeros((3, 2), np.float32)
    >>> for _ in range(2):
    ...     matrix = kept.get([rows, None], (256,), lambda: "a matrix")
    >>> kept.made, kept.found
    (1, 1)
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._matrices: OrderedDict[bytes, tuple[Any, int]] = OrderedDict()
        self.made = self.found = 0

    def get(self, arrays: list[np.ndarray | None], settings: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """The matrix of these arrays and settings, made when there is none.

        Parameters
        ----------
        arrays : list of numpy.ndarray or None
            Everything that it is made of: compared by content, for a trial reads its rows anew for each candidate.
        settings : tuple
            What decides on it besides.
        make : callable
            Makes it.
        """
        key = _digest(arrays, settings)
        if key in self._matrices:
            self.found += 1
            self._matrices.move_to_end(key)
            return self._matrices[key][0]
        matrix = make()
        self.made += 1
        self._matrices[key] = matrix, sum(each.nbytes for each in arrays if each is not None)
        while sum(size for _, size in self._matrices.values()) > self._most_bytes:
            self._matrices.popitem(last=False)
        return matrix


_kept: KeptMatrices | None = None


def keep_matrices() -> None:
    """Have this process keep quantised matrices for fits to come."""
    global _kept
    if _kept is None:
        _kept = KeptMatrices(_MOST_BYTES)


def kept_matrices() -> KeptMatrices | None:
    """Those of this process; None unless it is to keep some.

    Examples
    --------
    >>> kept_matrices() is None
    True
    """
    return _kept


def _digest(arrays: list[np.ndarray | None], settings: tuple[Any, ...]) -> bytes:
    digest = hashlib.blake2b(repr(settings).encode(), digest_size=16)
    for each in arrays:
        digest.update(b"none" if each is None else f"{each.dtype}{each.shape}".encode())
        if each is not None:
            digest.update(np.ascontiguousarray(each).data)
    return digest.digest()
