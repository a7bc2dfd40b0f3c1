"""Staged Arrow files become blocks in Ray's object store, by ordinary Ray tasks that Ray can run again.

``jvm/.../PartitionWriter.scala`` writes the files and the JSON that :meth:`StagedPartition.parse` reads.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.actor import ActorHandle

from raydp_ml.errors import BlockLostError, InvalidValueError

_RECOMPUTE_TRIES = 3


@dataclass(frozen=True)
class StagedFile:
    """One Arrow file of a partition: it becomes (part of) one block."""

    path: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class StagedPartition:
    """What an executor wrote for one partition, and the hashes that a recompute must match.

    Of its rows the first ``taken`` become blocks; None: all.
    """

    partition: int
    executor: str
    files: tuple[StagedFile, ...]
    rows: int
    unordered: str
    ordered: str
    vector_sizes: dict[str, int] = field(default_factory=dict)
    on_disk: int = 0
    node_id: str | None = None
    host: ActorHandle | None = None
    taken: int | None = None

    @classmethod
    def parse(cls, message: str) -> StagedPartition:
        """Read the JSON of PartitionWriter.scala."""
        told: dict[str, Any] = json.loads(message)
        files = tuple(StagedFile(b["path"], b["rows"], b["bytes"]) for b in told["blocks"])
        return cls(
            told["partition"],
            told["executor"],
            files,
            told["rows"],
            told["unordered"],
            told["ordered"],
            told["vectors"],
            told["on_disk"],
        )

    def at(self, node_id: str | None, host: ActorHandle | None) -> StagedPartition:
        """The same with the place where the files lie."""
        return replace(self, node_id=node_id, host=host)

    def check_same_rows(self, again: StagedPartition) -> None:
        """Compare a recompute with the first time.

        Raises
        ------
        BlockLostError
            When the rows differ; or only their order, if several blocks were cut from the partition.
        """
        same = again.rows == self.rows and again.unordered == self.unordered and len(again.files) == len(self.files)
        if same and len(self.files) > 1:
            same = again.ordered == self.ordered
        if not same:
            raise BlockLostError(
                f"a block of partition {self.partition} was lost, and computing the partition again gave other rows "
                f"({again.rows} now, {self.rows} before, or other values): its plan is not deterministic. Persist the frame, or "
                "use from_spark_recoverable, which does so, before converting it."
            )


@dataclass(frozen=True)
class Piece:
    """One file of one partition."""

    source: StagedPartition
    index: int

    @property
    def file(self) -> StagedFile:
        return self.source.files[self.index]

    @property
    def rows(self) -> int:
        """How many of the file's rows are taken."""
        if self.source.taken is None:
            return self.file.rows
        before = sum(file.rows for file in self.source.files[: self.index])
        return min(self.file.rows, max(0, self.source.taken - before))


@dataclass(frozen=True)
class BlockSpec:
    """The files that make one block, and the export that can compute them again."""

    export_id: str
    pieces: tuple[Piece, ...]
    vector_sizes: dict[str, int]
    tensors: tuple[str, ...]
    recompute_timeout: float

    @property
    def bytes(self) -> int:
        """Of the files."""
        return sum(piece.file.bytes for piece in self.pieces)

    @property
    def node_id(self) -> str | None:
        """Node that holds most of the bytes."""
        by_node: dict[str | None, int] = {}
        for piece in self.pieces:
            by_node[piece.source.node_id] = by_node.get(piece.source.node_id, 0) + piece.file.bytes
        return max(by_node, key=lambda node: by_node[node])


@dataclass(frozen=True)
class BlockInfo:
    """A block in the object store: its rows and bytes, and which vectors are lists and no tensors (:func:`as_tensors`)."""

    rows: int
    bytes: int
    lists: tuple[str, ...] = ()


def take_file(path: str, vector_sizes: dict[str, int]) -> pa.Table:
    """Map a staged file and remove its name; the mapping keeps the bytes until the table goes."""
    with pa.memory_map(path) as source:
        table = pa.ipc.open_stream(source).read_all()
    os.unlink(path)
    return with_vectors(table, vector_sizes)


def with_vectors(table: pa.Table, sizes: dict[str, int]) -> pa.Table:
    """Give list columns of one known length the fixed-size type, which numpy reads as a matrix without a copy.

    Parameters
    ----------
    table : pyarrow.Table
        The rows.
    sizes : dict
        Length of the vectors by column.

    Returns
    -------
    pyarrow.Table
        The same rows.

    Raises
    ------
    InvalidValueError
        When a vector has another length.

    Examples
    --------
    >>> with_vectors(pa.table({"v": [[1.0, 2.0]]}), {"v": 2}).schema.field("v").type
    FixedSizeListType(fixed_size_list<item: double>[2])
    """
    for name, size in sizes.items():
        column = table[name].combine_chunks()
        kind = pa.list_(column.type.value_type, size)
        lengths = pc.min_max(pc.list_value_length(column))
        if lengths["min"].as_py() not in (None, size) or lengths["max"].as_py() not in (None, size):
            raise InvalidValueError(
                f"column {name!r} holds vectors of {lengths['min']} to {lengths['max']} elements, expected {size} in every row"
            )
        without_nulls = column.null_count == 0
        fixed = pa.FixedSizeListArray.from_arrays(column.flatten(), type=kind) if without_nulls else column.cast(kind)
        table = table.set_column(table.schema.get_field_index(name), pa.field(name, kind), fixed)
    return table


def as_tensors(table: pa.Table, names: Sequence[str]) -> tuple[pa.Table, tuple[str, ...]]:
    """Give fixed-size lists Arrow's tensor type, which Ray Data makes a matrix of in numpy batches. Nothing is copied.

    No matrix has a row that is null, so a column with nulls remains a list.

    Parameters
    ----------
    table : pyarrow.Table
        The rows.
    names : sequence of str
        Columns that are fixed-size lists.

    Returns
    -------
    pyarrow.Table
        The same rows.
    tuple of str
        The columns that remained lists, because they have nulls.

    Examples
    --------
    >>> lists = with_vectors(pa.table({"v": [[1.0, 2.0]]}), {"v": 2})
    >>> as_tensors(lists, ["v"])[0]["v"].combine_chunks().to_numpy_ndarray()
    array([[1., 2.]])
    """
    lists = tuple(name for name in names if table[name].null_count)
    for name in names:
        if name not in lists:
            kind = table.schema.field(name).type
            tensors = pa.fixed_shape_tensor(kind.value_type, [kind.list_size])
            chunks = [pa.ExtensionArray.from_storage(tensors, chunk) for chunk in table[name].chunks]
            table = table.set_column(
                table.schema.get_field_index(name), pa.field(name, tensors), pa.chunked_array(chunks, tensors)
            )
    return table, lists


def all_as_tensors(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """As :func:`as_tensors`, where other blocks are tensors already: nulls are an error.

    Raises
    ------
    InvalidValueError
        When a vector is null; names the columns.
    """
    table, lists = as_tensors(table, names)
    if lists:
        raise InvalidValueError(
            f"columns {list(lists)} have vectors that are null, which tensors cannot have; drop these rows, or ask for "
            "vectors='list'"
        )
    return table


def as_lists(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Undo :func:`as_tensors`, for columns that have nulls in another block."""
    for name in names:
        column = table[name]
        if isinstance(column.type, pa.BaseExtensionType):
            kind = column.type.storage_type
            lists = pa.chunked_array([chunk.storage for chunk in column.chunks], kind)
            table = table.set_column(table.schema.get_field_index(name), pa.field(name, kind), lists)
    return table


def fetch(piece: Piece, sizes: dict[str, int], node_id: str) -> pa.Table | None:
    """The piece's rows from where they were staged; None when they are no longer there."""
    try:
        if piece.source.node_id == node_id:
            return take_file(piece.file.path, sizes)
        if piece.source.host is not None:
            return ray.get(piece.source.host.read_staged.remote([piece.file.path], sizes))[0]
    except (FileNotFoundError, ray.exceptions.RayActorError):
        return None
    except ray.exceptions.RayTaskError as error:
        if not isinstance(error.cause, FileNotFoundError):
            raise
    return None


def _drop_others(again: StagedPartition, index: int, node_id: str) -> None:
    """Remove the files of a recomputed partition that belong to other blocks."""
    others = [file.path for i, file in enumerate(again.files) if i != index]
    if not others:
        return
    if again.node_id == node_id:
        for path in others:
            os.unlink(path)
    elif again.host is not None:
        ray.get(again.host.read_staged.remote(others, {}))


def _recompute(piece: Piece, spec: BlockSpec, owner: ActorHandle, node_id: str) -> pa.Table:
    for _ in range(_RECOMPUTE_TRIES):
        again: StagedPartition = ray.get(
            owner.recompute.remote(spec.export_id, piece.source.partition, spec.recompute_timeout)
        )
        piece.source.check_same_rows(again)
        table = fetch(Piece(again, piece.index), spec.vector_sizes, node_id)
        if table is not None:
            _drop_others(again, piece.index, node_id)
            return table
    raise BlockLostError(
        f"partition {piece.source.partition} was computed again {_RECOMPUTE_TRIES} times, and each time its executor was lost"
    )


# No CPU: Spark may hold every slot of the cluster while this runs. Retries without end: each one is a node that was lost.
@ray.remote(num_cpus=0, max_retries=-1)
def load_blocks(specs: Sequence[BlockSpec], owner: ActorHandle) -> tuple[Any, ...]:
    """Read the staged files of some blocks into a table each, which Ray puts into its object store; the last result is their infos.

    Run again after a loss it finds no files and asks, through the owner, for the partitions to be computed once more.
    """
    node_id = ray.get_runtime_context().get_node_id()
    loaded = [_load(spec, owner, node_id) for spec in specs]
    return *(table for table, _ in loaded), [info for _, info in loaded]


def _load(spec: BlockSpec, owner: ActorHandle, node_id: str) -> tuple[pa.Table, BlockInfo]:
    tables = []
    for piece in spec.pieces:
        table = fetch(piece, spec.vector_sizes, node_id)
        if table is None:
            table = _recompute(piece, spec, owner, node_id)
        # A copy, so that the rows that are left out do not lie in the object store.
        tables.append(table if piece.rows == len(table) else table.take(pa.array(range(piece.rows))))
    table = tables[0] if len(tables) == 1 else pa.concat_tables(tables).combine_chunks()
    table, lists = as_tensors(table, spec.tensors)
    return table, BlockInfo(table.num_rows, table.nbytes, lists)


@ray.remote(num_cpus=0, max_retries=-1)
def relist_block(block: pa.Table, names: tuple[str, ...]) -> pa.Table:
    """The block with lists in place of tensors."""
    return as_lists(block, names)
