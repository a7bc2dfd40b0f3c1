"""Rows on a worker's disk as tensors, a buffer of them at a time."""

from __future__ import annotations

import torch

from raydp_ml.estimators.protocol import Rows
from raydp_ml.estimators.streamed import Passage, StreamedRows
from raydp_ml.estimators.torch.batches import RowTensors, TrainingRows
from raydp_ml.frames.layouts import is_sparse
from raydp_ml.frames.sparse import dense_pieces

__all__ = ["StreamedTensors", "training_rows"]

_CPU = torch.device("cpu")


def training_rows(rows: Rows, device: torch.device, layout: torch.layout = torch.strided) -> TrainingRows:
    """The rows of a job as tensors, in memory or streamed.

    Parameters
    ----------
    rows : Rows
        The rows.
    device : torch.device
        Where the model computes. Rows in memory lie there, where there is room for them.
    layout : torch.layout
        What sparse rows become.
    """
    if isinstance(rows, StreamedRows):
        return StreamedTensors(rows, layout)
    return RowTensors.of(rows, device, layout)


class StreamedTensors:
    """Rows on disk.

    Parameters
    ----------
    rows : StreamedRows
        The rows.
    layout : torch.layout
        What sparse rows become.

    Attributes
    ----------
    dense_width : int
        How many numbers a row is when it is made dense; 1 where rows are dense already, or stay sparse.
    sliced : bool
        Whether a batch may be a view of many rows.
    device : torch.device
        The CPU.
    """

    def __init__(self, rows: StreamedRows, layout: torch.layout = torch.strided) -> None:
        self._rows, self._layout = rows, layout
        self.sliced = not is_sparse(rows.X)
        self.dense_width = 1 if self.sliced or layout is not torch.strided else int(rows.X.shape[1])

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def device(self) -> torch.device:
        """Where tensors of the rows are made."""
        return _CPU

    def order(self, generator: torch.Generator) -> torch.Tensor:
        """A random order: the seed of one."""
        return torch.randint(2**62, (), generator=generator)

    def passage(self, order: torch.Tensor | None) -> _PassageFromDisk:
        """One way through the rows, in an order or as they lie."""
        return _PassageFromDisk(self, Passage(self._rows, None if order is None else int(order)))

    def pieces(self, most: int) -> list[slice]:
        """Ranges of at most so many rows, and fewer where rows are wide when they are made dense."""
        return dense_pieces(len(self), self.dense_width, most)

    def copied(self, start: int, stop: int) -> RowTensors:
        """Rows of a range, as far as there are any."""
        return self.tensors(self._rows.read([slice(start, min(stop, len(self)))]))

    def tensors(self, rows: Rows) -> RowTensors:
        """Rows in memory as tensors."""
        made = RowTensors.of(rows, _CPU, self._layout)
        return made if made.sliced else made.view(0, len(rows))


class _PassageFromDisk:
    """The rows of a passage as tensors."""

    def __init__(self, rows: StreamedTensors, passage: Passage) -> None:
        self._rows, self._passage = rows, passage

    def take(self, count: int) -> RowTensors:
        """The next rows."""
        return self._rows.tensors(self._passage.take(count))

    def first(self, count: int) -> RowTensors:
        """Some rows that were there before."""
        return self._rows.copied(0, count)
