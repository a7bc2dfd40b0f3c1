"""Rows that are trained on in chunks, because a worker's memory does not hold them.

They are written once, as they come, to files on the worker's disk, one for each array, and read from there in every epoch. The
files have no name, so they go when the last process that has them open ends, however it does.

In an epoch the rows come a buffer at a time, and one more buffer is read meanwhile. To shuffle, a buffer is filled with chunks from
random places of the whole shard, and its rows are permuted: a batch has rows of as many places as a buffer has chunks, and a
shard that fits in one buffer is shuffled as one in memory is.
"""

from __future__ import annotations

import logging
import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.protocol import Rows
from raydp_ml.frames.layouts import from_leaves, is_sparse, leaves_of

__all__ = ["BUFFER_BYTES", "CHUNKS", "Passage", "Spool", "SpooledRows", "StreamedRows", "buffers"]

_log = logging.getLogger("raydp_ml.estimators")

BUFFER_BYTES = 64 << 20
"""How many bytes of rows are in memory as a buffer, of which there are two."""

CHUNKS = 256
"""Of how many chunks a buffer consists; the rows of one lie side by side on the disk, enough of them for it to be read fast."""

# Arrays of which a row has one entry, besides those of its features.
_BESIDE_FEATURES = ("y", "weight", "base_margin")
# Arrays of sparse features, of which a row has as many entries as it has values, or that say where these end.
_OF_SPARSE_ROWS = ("X_values", "X_indices", "X_ends")


Seed: TypeAlias = int | Sequence[int] | None


@dataclass(frozen=True)
class _Leaf:
    """An array in a file of its own: the type and the shape of an entry, and how many entries there are."""

    dtype: np.dtype
    shape: tuple[int, ...]
    count: int


@dataclass
class StreamedRows(Rows):
    """Rows that lie on disk.

    The arrays are the files, mapped into memory: they have a shape and a type, and what is read of them comes from the disk.
    ``read`` gives rows in memory of their own.
    """

    files: Mapping[str, int] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """How many bytes all rows are."""
        return sum(array.nbytes for array in self.arrays.values())

    def read(self, ranges: Sequence[slice]) -> Rows:
        """The rows of some ranges, one after the other, in memory of their own.

        Parameters
        ----------
        ranges : sequence of slice
            Each with a start and a stop.
        """
        read = {name: self._read(name, ranges) for name in self.arrays if name not in _OF_SPARSE_ROWS}
        if is_sparse(self.X):
            bounds = [self._bounds(each) for each in ranges]
            inside = [slice(int(each[0]), int(each[-1])) for each in bounds]
            read |= {name: self._read(name, inside) for name in ("X_values", "X_indices")}
            read["X_ends"] = np.cumsum(np.concatenate([np.zeros(0, np.int64), *map(np.diff, bounds)]))
            read["X_width"] = np.array([self.X.shape[1]])
        others = {name: read.pop(name) for name in _BESIDE_FEATURES if name in read}
        return Rows(from_leaves(read), **others)

    def _bounds(self, rows: slice) -> np.ndarray:
        """Where the values of sparse rows start, and where those of the last one end."""
        ends = self.arrays["X_ends"]
        return np.concatenate([ends[rows.start - 1 : rows.start] if rows.start else np.zeros(1, np.int64), ends[rows]])

    def _read(self, name: str, ranges: Sequence[slice]) -> np.ndarray:
        mapped = self.arrays[name]
        count = sum(each.stop - each.start for each in ranges)
        found = np.empty((count, *mapped.shape[1:]), mapped.dtype)
        if not found.nbytes:
            return found
        size, place, memory = found.nbytes // count, 0, found.data.cast("B")
        for each in ranges:
            end = place + (each.stop - each.start) * size
            _read_exactly(self.files[name], memory[place:end], each.start * size)
            place = end
        return found


def _read_exactly(file: int, memory: memoryview, offset: int) -> None:
    # Not through the mapping, whose pages would count as this process's memory for as long as the system leaves them there.
    done = 0
    while done < len(memory):
        count = os.preadv(file, [memory[done:]], offset + done)
        if not count:
            raise EOFError("the file of streamed rows is shorter than it was written")
        done += count


@dataclass(frozen=True)
class SpooledRows:
    """What is needed, besides the files, to read rows that a :class:`Spool` wrote; ``width`` is that of sparse rows."""

    leaves: dict[str, _Leaf]
    width: int | None

    def open(self, files: Sequence[int]) -> StreamedRows:
        """The rows.

        Parameters
        ----------
        files : sequence of int
            The descriptors, in the order in which :meth:`Spool.finish` gave them. They are closed when nobody has the rows.
        """
        by_name = dict(zip(self.leaves, files, strict=True))
        arrays = {name: _mapped(by_name[name], leaf) for name, leaf in self.leaves.items()}
        others = {name: array for name, array in arrays.items() if name in _BESIDE_FEATURES}
        features = {name: array for name, array in arrays.items() if name not in _BESIDE_FEATURES}
        if self.width is not None:
            features["X_width"] = np.array([self.width])
        rows = StreamedRows(from_leaves(features), **others, files=by_name, arrays=arrays)
        weakref.finalize(rows, _close, list(files))
        return rows


def _close(files: Sequence[int]) -> None:
    for file in files:
        os.close(file)


def _mapped(file: int, leaf: _Leaf) -> np.ndarray:
    shape = (leaf.count, *leaf.shape)
    if not os.fstat(file).st_size:  # which cannot be mapped
        return np.empty(shape, leaf.dtype)
    return np.ndarray(shape, leaf.dtype, mmap.mmap(file, 0, access=mmap.ACCESS_READ))


class Spool:
    """Writes rows to files without a name, as they come.

    Parameters
    ----------
    rows : int
        How many there will be.

    Raises
    ------
    InvalidValueError
        When the first rows come, and all of them would not fit on the disk.

    Examples
    --------
    >>> spool = Spool(3)
    >>> for first in (0, 2):
    ...     numbers = np.arange(first, min(first + 2, 3))
    ...     spool.add(Rows(numbers[:, None].astype(np.float32), numbers))
    >>> described, files = spool.finish()
    >>> described.open(files).read([slice(2, 3), slice(0, 1)]).y.tolist()
    [2, 0]
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._leaves: dict[str, _Leaf] = {}
        self._files: dict[str, int] = {}
        self._width: int | None = None

    def add(self, rows: Rows) -> None:
        """Write more rows.

        Parameters
        ----------
        rows : Rows
            Of the same columns and types as those before.
        """
        leaves = {name: arrays[0] for name, arrays in leaves_of([rows.X]).items()}
        if is_sparse(rows.X):
            self._width = int(leaves.pop("X_width")[0])
            before = self._leaves["X_values"].count if self._leaves else 0
            leaves["X_ends"] = leaves["X_ends"] + before
        others = {name: getattr(rows, name) for name in _BESIDE_FEATURES}
        leaves |= {name: array for name, array in others.items() if array is not None}
        if not self._files:
            self._require_room(sum(array.nbytes for array in leaves.values()), len(rows))
        for name, array in leaves.items():
            self._write(name, np.ascontiguousarray(array))

    def _write(self, name: str, array: np.ndarray) -> None:
        leaf = self._leaves.get(name)
        if leaf is None:
            leaf = _Leaf(array.dtype, array.shape[1:], 0)
            with tempfile.TemporaryFile(prefix="raydp_ml_") as made:
                self._files[name] = os.dup(made.fileno())
        array = array.astype(leaf.dtype, copy=False)
        memory = array.data.cast("B") if array.nbytes else memoryview(b"")
        while memory:
            memory = memory[os.write(self._files[name], memory) :]
        self._leaves[name] = _Leaf(leaf.dtype, leaf.shape, leaf.count + len(array))

    def _require_room(self, size: int, rows: int) -> None:
        folder = tempfile.gettempdir()
        needed, free = size * self._rows // max(rows, 1), shutil.disk_usage(folder).free
        if needed > free:
            raise InvalidValueError(
                f"streaming writes {self._rows:,} rows, about {needed:,} bytes, to {folder} on each worker's disk, which has "
                f"{free:,} bytes free; set TMPDIR to a folder on a larger disk where Ray is started"
            )
        if _lies_in_memory(folder):
            _log.warning(
                "streamed rows go to %s, which lies in memory (tmpfs); set TMPDIR to a folder on a disk", folder
            )

    def finish(self) -> tuple[SpooledRows, list[int]]:
        """What was written.

        Returns
        -------
        rows : SpooledRows
            How to read it.
        files : list of int
            Descriptors, which are the caller's from now on.
        """
        files, self._files = list(self._files.values()), {}
        return SpooledRows(dict(self._leaves), self._width), files

    def close(self) -> None:
        """Let the files go, where they are not handed on."""
        _close(list(self._files.values()))
        self._files = {}


def _lies_in_memory(folder: str) -> bool:
    """Whether the file system of a folder is one in memory."""
    real = os.path.realpath(folder)
    mounts = (line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines())
    holding = {point: kind for point, kind in mounts if os.path.commonpath([real, point]) == point}
    return holding.get(max(holding, key=len, default=""), "") in ("tmpfs", "ramfs")


class Passage:
    """One way through the rows of an epoch.

    Parameters
    ----------
    rows : StreamedRows
        The rows.
    seed : int or sequence of int, optional
        Shuffles; None: the rows come in the order in which they lie.

    Examples
    --------
    >>> spool = Spool(5)
    >>> spool.add(Rows(np.zeros((5, 1), np.float32), np.arange(5)))
    >>> described, files = spool.finish()
    >>> passage = Passage(described.open(files))
    >>> passage.take(2).y.tolist(), passage.take(3).y.tolist()
    ([0, 1], [2, 3, 4])
    """

    def __init__(self, rows: StreamedRows, seed: Seed = None) -> None:
        self._rows, self._coming = rows, buffers(rows, seed)
        self._buffer: Rows | None = None
        self._order: np.ndarray | None = None
        self._place = 0

    def take(self, count: int) -> Rows:
        """The next rows.

        Parameters
        ----------
        count : int
            How many; no more than are left in the epoch.
        """
        parts = []
        while count:
            if self._buffer is None or self._place == len(self._buffer):
                self._buffer = None  # let go before the next one comes, so that there are never three
                (self._buffer, self._order), self._place = next(self._coming), 0
            stop = min(self._place + count, len(self._buffer))
            chosen = slice(self._place, stop) if self._order is None else self._order[self._place : stop]
            parts.append(_chosen(self._buffer, chosen))
            count -= stop - self._place
            self._place = stop
        if not parts:
            return self._rows.read([slice(0, 0)])
        return parts[0] if len(parts) == 1 else _joined(parts)


def _chosen(rows: Rows, chosen: slice | np.ndarray) -> Rows:
    X = (
        rows.X.take(chosen, axis=0)
        if isinstance(chosen, np.ndarray) and isinstance(rows.X, np.ndarray)
        else rows.X[chosen]
    )
    weight, margin = (None if each is None else each[chosen] for each in (rows.weight, rows.base_margin))
    return Rows(X, rows.y[chosen], weight, base_margin=margin)


def _joined(parts: Sequence[Rows]) -> Rows:
    leaves = {name: np.concatenate(arrays) for name, arrays in leaves_of([part.X for part in parts]).items()}
    others = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in _BESIDE_FEATURES
        if getattr(parts[0], name) is not None
    }
    return Rows(from_leaves(leaves), **others)


def buffers(rows: StreamedRows, seed: Seed = None) -> Iterator[tuple[Rows, np.ndarray | None]]:
    """The rows of an epoch, a buffer at a time; the next one is read meanwhile.

    Parameters
    ----------
    rows : StreamedRows
        The rows.
    seed : int or sequence of int, optional
        Shuffles; None: the rows come in the order in which they lie.

    Yields
    ------
    rows : Rows
        Those in the buffer.
    order : numpy.ndarray or None
        In which order to take them; None as they lie.

    Examples
    --------
    >>> spool = Spool(4)
    >>> spool.add(Rows(np.zeros((4, 1), np.float32), np.arange(4)))
    >>> described, files = spool.finish()
    >>> [part.y.tolist() for part, _ in buffers(described.open(files))]
    [[0, 1, 2, 3]]
    """
    random = None if seed is None else np.random.default_rng(seed)
    with ThreadPoolExecutor(1, "raydp-ml-rows") as reader:
        coming: Future[Rows] | None = None
        for ranges in _plan(rows, random):
            ahead, coming = coming, reader.submit(rows.read, ranges)
            if ahead is not None:
                yield _ordered(ahead.result(), random)
        if coming is not None:
            yield _ordered(coming.result(), random)


def _ordered(rows: Rows, random: np.random.Generator | None) -> tuple[Rows, np.ndarray | None]:
    return rows, None if random is None else random.permutation(len(rows))


def _plan(rows: StreamedRows, random: np.random.Generator | None) -> Iterator[list[slice]]:
    """The ranges of rows in each buffer of an epoch."""
    count = len(rows)
    size = max(1, rows.bytes // max(count, 1))
    chunk = max(1, BUFFER_BYTES // CHUNKS // size)
    at_once = max(1, BUFFER_BYTES // (chunk * size))
    starts = np.arange(0, count, chunk)
    if random is not None:
        starts = random.permutation(starts)
    for first in range(0, len(starts), at_once):
        chosen = np.sort(
            starts[first : first + at_once]
        )  # a disk reads forward faster, and the rows are permuted anyway
        yield [slice(int(start), min(int(start) + chunk, count)) for start in chosen]
