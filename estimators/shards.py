"""Who gets which rows.

No row is lost on the way. The rows that train are divided among the workers in the order of the data, so that worker
counts differ by at most one; blocks are cut where needed. Ray Data's own equal split drops remainders.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raydp_ml.frames.arrays import Arrays, fetch, is_reference
from raydp_ml.frames.columns import Selection

__all__ = ["Piece", "Shard", "split", "worker_of_rows"]


@dataclass
class Piece:
    """A range of rows of one block (a reference, or arrays), of which ``keep`` may choose some."""

    block: Any
    start: int
    stop: int
    keep: np.ndarray | None = None


@dataclass
class Shard:
    """The rows of one worker."""

    pieces: list[Piece]
    rows: int
    selection: Selection | None = None

    def parts(self, known: Mapping[Any, Arrays] | None = None) -> list[Arrays]:
        """The rows of each piece, in order; blocks that are known are not read again."""
        return list(self.stream(known))

    def stream(self, known: Mapping[Any, Arrays] | None = None) -> Iterator[Arrays]:
        """The same, one after the other, so that only one of them need be in memory."""
        for piece in self.pieces:
            arrays = (known or {}).get(piece.block) if is_reference(piece.block) else None
            arrays = fetch(piece.block, self.selection) if arrays is None else arrays
            if piece.start or piece.stop != len(arrays):
                arrays = arrays.take(slice(piece.start, piece.stop))
            yield arrays if piece.keep is None else arrays.take(piece.keep)

    def load(self) -> Arrays:
        """Bring the rows into this process, as one contiguous matrix."""
        return Arrays.concat(self.parts())


def split(
    blocks: Sequence[Any], sizes: Sequence[int], chosen: np.ndarray | None, workers: int, selection: Selection | None
) -> list[Shard]:
    """Divide the rows of blocks among workers, in order, so that their counts differ by at most one.

    Parameters
    ----------
    blocks : sequence
        Blocks as :func:`fetch` takes them.
    sizes : sequence of int
        Rows of each block.
    chosen : numpy.ndarray of bool, optional
        Which rows to divide; None: all of them.
    workers : int
        Number of workers.
    selection : Selection, optional
        How to read the blocks.

    Examples
    --------
    >>> [shard.rows for shard in split(["first", "second"], [3, 4], None, 2, None)]
    [3, 4]
    """
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    positions = None if chosen is None else np.flatnonzero(chosen)
    total = int(starts[-1]) if positions is None else len(positions)
    shards = []
    for rank in range(workers):
        low, high = total * rank // workers, total * (rank + 1) // workers
        pieces = []
        if high > low:
            first, end = (low, high) if positions is None else (int(positions[low]), int(positions[high - 1]) + 1)
            for index, block in enumerate(blocks):
                start, stop = max(first, int(starts[index])), min(end, int(starts[index + 1]))
                if start >= stop:
                    continue
                keep = None if chosen is None else chosen[start:stop]
                if keep is not None and keep.all():
                    keep = None
                if keep is None or keep.any():
                    offset = int(starts[index])
                    pieces.append(Piece(block, start - offset, stop - offset, keep))
        shards.append(Shard(pieces, high - low, selection))
    return shards


def worker_of_rows(queries: np.ndarray, chosen: np.ndarray | None, workers: int) -> np.ndarray:
    """Which worker each row goes to, so that the rows of a query stay together and workers have about as many rows.

    Parameters
    ----------
    queries : numpy.ndarray of int
        The number of each row's query.
    chosen : numpy.ndarray of bool, optional
        Which rows to divide; None: all of them.
    workers : int
        Number of workers. Each gets a query at least, where there are so many.

    Returns
    -------
    numpy.ndarray of int
        The worker's number, -1 for rows that are not chosen.

    Examples
    --------
    >>> worker_of_rows(np.array([7, 7, 3, 7, 9]), None, 2).tolist()
    [0, 0, 1, 0, 1]
    """
    rows = np.arange(len(queries)) if chosen is None else np.flatnonzero(chosen)
    numbers, first, place, counts = np.unique(queries[rows], return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first, kind="stable")  # queries as they come, so that each worker reads few blocks
    ends = np.cumsum(counts[order])
    worker_of_query = np.empty(len(numbers), np.int64)
    start = 0
    for rank in range(workers):
        aim = len(rows) * (rank + 1) / workers
        stop = len(order) if rank == workers - 1 else int(np.searchsorted(ends, aim - 0.5)) + 1
        stop = max(min(stop, len(order) - (workers - 1 - rank)), min(start + 1, len(order)))
        worker_of_query[order[start:stop]] = rank
        start = stop
    found = np.full(len(queries), -1)
    found[rows] = worker_of_query[place]
    return found
