"""The batches of an epoch: rows taken in an order, many at once, and cut into batches.

Batches are global: ``batch_size`` rows are divided evenly among the workers (rounded up). In the last batches of an epoch workers
may have fewer rows; a worker that has none left repeats rows that do not count, so that all make the same number of steps.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from raydp_ml.estimators.protocol import Rows
from raydp_ml.frames.layouts import Matrix, groups_of, is_sparse
from raydp_ml.frames.sparse import dense_pieces

__all__ = [
    "Batch",
    "Batches",
    "Passage",
    "RowTensors",
    "TrainingRows",
    "as_tensor",
    "copies",
    "tensors_of",
    "without_single_rows",
]

# Rows are gathered for so many batches at once; a batch is then a view, which costs no copy of its own.
_GATHERED_ROWS = 1 << 16


class SparseRows:
    """Rows of a sparse matrix, which are tensors where they are asked for.

    Parameters
    ----------
    matrix : scipy.sparse.csr_matrix
        The rows.
    layout : torch.layout
        That of the tensors: dense ones, or compressed rows.
    """

    def __init__(self, matrix: Any, layout: torch.layout = torch.strided) -> None:
        self._matrix, self._layout = matrix, layout

    def index_select(self, dim: int, rows: torch.Tensor) -> torch.Tensor:
        """The rows at these places, as torch's tensors give them; ``dim`` is 0."""
        return self[rows]

    def __getitem__(self, rows: Any) -> torch.Tensor:
        chosen = self._matrix[rows.numpy() if isinstance(rows, torch.Tensor) else rows]
        if self._layout is torch.strided:
            return torch.from_numpy(chosen.toarray())
        with warnings.catch_warnings():
            # torch 2.13 warns that their operations are not all there; the model's author has chosen those that are.
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            ends, places, values = map(torch.from_numpy, (chosen.indptr, chosen.indices, chosen.data))
            return torch.sparse_csr_tensor(ends, places, values, size=chosen.shape)


@dataclass
class RowTensors:
    """Rows as tensors: features (one tensor for each of their types), labels, and weights where there are some.

    ``dense_width`` is how many numbers a row is when it is made dense; 1 where rows are dense already, or stay sparse. ``sliced``
    says whether a batch may be a view of many rows.
    """

    X: tuple[Any, ...]
    y: torch.Tensor
    weight: torch.Tensor | None
    dense_width: int = 1
    sliced: bool = True

    def __len__(self) -> int:
        return len(self.y)

    @classmethod
    def of(cls, rows: Rows, device: torch.device, layout: torch.layout = torch.strided) -> RowTensors:
        """The rows of a job, on a GPU where there is room for them there."""
        weight = None if rows.weight is None else as_tensor(rows.weight)
        tensors = cls(tensors_of(rows.X, layout), as_tensor(rows.y), weight)
        if is_sparse(rows.X):
            tensors.dense_width = rows.X.shape[1] if layout is torch.strided else 1
            tensors.sliced = False
            return tensors
        return tensors if device.type == "cpu" or not tensors._fit_on(device) else tensors.to(device)

    def _fit_on(self, device: torch.device) -> bool:
        free, _ = torch.cuda.mem_get_info(device)
        return sum(group.nbytes for group in self.X) + self.y.nbytes < free // 2

    @property
    def device(self) -> torch.device:
        """Where the rows lie."""
        return self.y.device

    def to(self, device: torch.device) -> RowTensors:
        """These rows on a device; from pinned memory, so that the copy goes on while the model computes."""
        if self.device == device:
            return self
        pinned = device.type == "cuda"

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            may_pin = pinned and tensor.layout is torch.strided
            return (tensor.pin_memory() if may_pin else tensor).to(device, non_blocking=may_pin)

        return self._each(moved)

    def order(self, generator: torch.Generator) -> torch.Tensor:
        """A random order of the rows, as :meth:`passage` takes it."""
        return torch.randperm(len(self), generator=generator).to(self.device)

    def passage(self, order: torch.Tensor | None) -> Passage:
        """One way through the rows, in an order or as they lie."""
        return _PassageInMemory(self, order)

    def pieces(self, most: int) -> list[slice]:
        """Ranges of at most so many rows, and fewer where rows are wide when they are made dense."""
        return dense_pieces(len(self), self.dense_width, most)

    def take(self, order: torch.Tensor) -> RowTensors:
        """Copies of the rows at these places. Torch selects rows several times as fast as it indexes with a tensor."""
        return self._each(lambda tensor: tensor.index_select(0, order))

    def view(self, start: int, stop: int) -> RowTensors:
        """Rows of a range, in the same memory."""
        return self._each(lambda tensor: tensor[start:stop])

    def part(self, start: int, stop: int) -> RowTensors:
        """Rows of a range among gathered ones; all of them as they are, because sparse tensors have no views."""
        return self if stop - start == len(self) else self.view(start, stop)

    def copied(self, start: int, stop: int) -> RowTensors:
        """Rows of a range. Features are copied, because a model may change its input."""
        part = self.view(start, stop)
        return RowTensors(copies(part.X), part.y, part.weight)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> RowTensors:
        weight = None if self.weight is None else change(self.weight)
        return RowTensors(tuple(map(change, self.X)), change(self.y), weight)


class Passage(Protocol):
    """One way through the rows of an epoch."""

    def take(self, count: int) -> RowTensors:
        """The next rows."""
        ...

    def first(self, count: int) -> RowTensors:
        """Some rows that were there before, for a worker that only keeps up with the others."""
        ...


class _PassageInMemory:
    def __init__(self, rows: RowTensors, order: torch.Tensor | None) -> None:
        self._rows, self._order, self._place = rows, order, 0

    def take(self, count: int) -> RowTensors:
        start, self._place = self._place, self._place + count
        return self._gather(start, self._place)

    def first(self, count: int) -> RowTensors:
        return self._gather(0, count)

    def _gather(self, start: int, stop: int) -> RowTensors:
        return self._rows.copied(start, stop) if self._order is None else self._rows.take(self._order[start:stop])


class TrainingRows(Protocol):
    """Rows that a model is trained on or validated with, wherever they lie."""

    dense_width: int
    sliced: bool

    def __len__(self) -> int: ...

    @property
    def device(self) -> torch.device:
        """Where the rows lie."""
        ...

    def order(self, generator: torch.Generator) -> torch.Tensor:
        """A random order, as :meth:`passage` takes it."""
        ...

    def passage(self, order: torch.Tensor | None) -> Passage:
        """One way through the rows, in an order or as they lie."""
        ...

    def pieces(self, most: int) -> list[slice]:
        """Ranges of at most so many rows."""
        ...

    def copied(self, start: int, stop: int) -> RowTensors:
        """Rows of a range, in memory of their own."""
        ...


def tensors_of(X: Matrix, layout: torch.layout = torch.strided) -> tuple[Any, ...]:
    """The matrices that features lie in, as tensors in the same memory, or as what makes tensors of sparse rows."""
    return (SparseRows(X, layout),) if is_sparse(X) else tuple(map(as_tensor, groups_of(X)))


def copies(groups: Iterable[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Tensors in memory of their own."""
    return tuple(group.clone() for group in groups)


@dataclass
class Batch:
    """Rows that go through the model at once.

    ``count`` is how many of them count: all of them, or none where a worker only keeps up with the others; ``of_step`` is how many
    rows count on all workers in the step that this batch belongs to.
    """

    X: tuple[torch.Tensor, ...]
    y: torch.Tensor
    weight: torch.Tensor | None
    count: int
    of_step: int


class Batches:
    """The batches of one worker, in steps of one or more.

    Parameters
    ----------
    rows : TrainingRows
        The rows of this worker.
    sizes : numpy.ndarray of int, shape (workers, batches)
        How many rows each worker takes in each batch.
    rank : int
        Which of the workers this is.
    accumulate : int
        How many batches make a step of the optimizer.
    device : torch.device
        Where the model computes.

    Examples
    --------
    >>> rows = RowTensors((torch.arange(5.0)[:, None],), torch.zeros(5), None)
    >>> batches = Batches(rows, np.array([[2, 2, 1]]), 0, 2, torch.device("cpu"))
    >>> [[batch.X[0][:, 0].tolist() for batch in step] for step in batches.steps(None)]
    [[[0.0, 1.0], [2.0, 3.0]], [[4.0]]]
    """

    def __init__(self, rows: TrainingRows, sizes: np.ndarray, rank: int, accumulate: int, device: torch.device) -> None:
        self._rows, self._device, self._accumulate = rows, device, accumulate
        self._sizes = [int(size) for size in sizes[rank]]
        totals = sizes.sum(axis=0)
        self._of_step = [int(totals[start : start + accumulate].sum()) for start in range(0, len(totals), accumulate)]
        self._share = max(self._sizes)
        # Sparse rows become tensors one batch at a time.
        self._gathered = _GATHERED_ROWS if rows.sliced else 0

    @property
    def steps_per_epoch(self) -> int:
        """How often the optimizer steps in an epoch."""
        return len(self._of_step)

    def steps(self, order: torch.Tensor | None) -> Iterator[list[Batch]]:
        """The batches of an epoch, those of one step together.

        Parameters
        ----------
        order : torch.Tensor or None
            The order of this epoch, as the rows gave it; None for that in which they lie.
        """
        step: list[Batch] = []
        for number, batch in enumerate(self._batches(order)):
            step.append(batch)
            if len(step) == self._accumulate or number == len(self._sizes) - 1:
                yield step
                step = []

    def _batches(self, order: torch.Tensor | None) -> Iterator[Batch]:
        passage = self._rows.passage(order)
        number = 0
        while number < len(self._sizes):
            count, end = 0, number
            while end < len(self._sizes) and (end == number or count + self._sizes[end] <= self._gathered):
                count, end = count + self._sizes[end], end + 1
            yield from self._cut(passage.take(count).to(self._device), passage, number, end)
            number = end

    def _cut(self, gathered: RowTensors, passage: Passage, first: int, end: int) -> Iterator[Batch]:
        place = 0
        for number in range(first, end):
            size = self._sizes[number]
            part = gathered.part(place, place + size) if size else self._repeated(passage)
            place += size
            yield Batch(part.X, part.y, part.weight, size, self._of_step[number // self._accumulate])

    def _repeated(self, passage: Passage) -> RowTensors:
        return passage.first(min(self._share, len(self._rows))).to(self._device)


def without_single_rows(sizes: np.ndarray) -> np.ndarray:
    """The plan of an epoch in which no last batch of a single row is left: such a row joins the batch before.

    Parameters
    ----------
    sizes : numpy.ndarray of int, shape (workers, batches)
        How many rows each worker takes in each batch.

    Examples
    --------
    >>> without_single_rows(np.array([[4, 4, 1], [4, 4, 0]])).tolist()
    [[4, 5], [4, 4]]
    """
    if sizes.shape[1] < 2 or not (sizes[:, -1] == 1).any() or sizes[:, 0].max() < 2:
        return sizes
    return np.concatenate([sizes[:, :-2], sizes[:, -2:].sum(axis=1, keepdims=True)], axis=1)


def as_tensor(values: np.ndarray) -> torch.Tensor:
    """An array as a tensor in the same memory."""
    with warnings.catch_warnings():
        # Arrays from Ray's store are read-only, which torch warns of; batches are copies, nothing writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.asarray(values))
