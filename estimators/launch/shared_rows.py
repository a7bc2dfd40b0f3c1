"""Rows written once into memory that another process maps: the way from a Ray worker to the process that trains."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from raydp_ml.frames.arrays import Arrays
from raydp_ml.frames.layouts import from_leaves, leaves_of

__all__ = ["SharedRows", "share_rows"]

_ALIGNMENT = 64


@dataclass(frozen=True)
class _Place:
    """Where an array lies in the file."""

    offset: int
    dtype: Any
    shape: tuple[int, ...]


@dataclass(frozen=True)
class SharedRows:
    """What is needed, besides the file, to read rows that :func:`share_rows` wrote.

    ``places`` are arrays in the file, of which ``leaves`` are those of the features, and ``values`` those that had to be pickled:
    labels that are Python objects.
    """

    places: dict[str, _Place]
    leaves: tuple[str, ...]
    values: dict[str, Any]
    size: int

    def read(self, file: int) -> Arrays:
        """The rows; the pages are shared, and copied where somebody writes to them.

        Parameters
        ----------
        file : int
            Descriptor of the file, which may be closed afterwards.
        """
        memory = mmap.mmap(file, max(self.size, 1), access=mmap.ACCESS_COPY)
        found: dict[str, Any] = {
            name: np.ndarray(place.shape, place.dtype, memory, place.offset) for name, place in self.places.items()
        }
        leaves = {name: found.pop(name) for name in self.leaves}
        return Arrays(from_leaves(leaves), **found, **self.values)


def share_rows(parts: Sequence[Arrays]) -> tuple[int, SharedRows]:
    """Write the rows of several parts one after another, each column or matrix contiguous.

    Parameters
    ----------
    parts : sequence of Arrays
        The rows; they are copied once.

    Returns
    -------
    file : int
        Descriptor of a file in memory (memfd_create(2)), which goes when nobody has it open or mapped.
    rows : SharedRows
        How to read it.

    Examples
    --------
    >>> file, rows = share_rows([Arrays(np.ones((1, 2), np.float32)), Arrays(np.zeros((1, 2), np.float32))])
    >>> rows.read(file).X.tolist()
    [[1.0, 1.0], [0.0, 0.0]]
    >>> os.close(file)
    """
    places: dict[str, _Place] = {}
    values: dict[str, Any] = {}
    pieces: dict[str, list[np.ndarray]] = {}
    size = 0
    leaves = leaves_of([part.X for part in parts])
    columns = {item.name: [getattr(part, item.name) for part in parts] for item in fields(Arrays) if item.name != "X"}
    for name, arrays in (leaves | columns).items():
        if arrays[0] is None:
            continue
        dtype = np.result_type(*arrays)
        if dtype.hasobject:
            values[name] = np.concatenate(arrays)
            continue
        shape = (sum(len(array) for array in arrays), *arrays[0].shape[1:])
        places[name] = _Place(size, dtype, shape)
        pieces[name] = arrays
        size += -(-int(np.prod(shape)) * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
    file = os.memfd_create("raydp_ml_rows", os.MFD_CLOEXEC)
    os.ftruncate(file, max(size, 1))
    with mmap.mmap(file, max(size, 1)) as memory:
        for name, place in places.items():
            whole = np.ndarray(place.shape, place.dtype, memory, place.offset)
            np.concatenate(pieces[name], out=whole)
            del whole  # a mapping that an array looks at cannot be closed
    return file, SharedRows(places, tuple(leaves), values, size)
