"""from_spark: a Spark DataFrame becomes a Ray Dataset, through shared memory."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import ray

from raydp_ml.errors import InvalidTypeError, InvalidValueError, RaydpMLError
from raydp_ml.exchange.blocks import BlockInfo, BlockSpec, Piece, StagedPartition, all_as_tensors, with_vectors
from raydp_ml.exchange.context import ExchangeContext, forget_unused
from raydp_ml.exchange.exportable import ExportableFrame, VectorForm, spark_frame
from raydp_ml.exchange.planner import BlockPlanner, TaskPlanner
from raydp_ml.exchange.ray_client import for_client
from raydp_ml.exchange.ray_seam import dataset_from_blocks, is_client
from raydp_ml.progress import waiting_for

if TYPE_CHECKING:
    import pyspark
    import pyspark.sql
    import ray.data

_SMALLEST_BLOCK = 1 << 20
_ENOUGH_FOR_A_TASK = 32 << 20
_POLL_MILLISECONDS = 100


def from_spark(
    df: pyspark.sql.DataFrame,
    parallelism: int | None = None,
    *,
    vectors: VectorForm = "tensor",
    vector_sizes: dict[str, int] | None = None,
    fs_directory: str | None = None,
) -> ray.data.MaterializedDataset:
    """Convert a Spark DataFrame to a Ray Dataset.

    Each partition goes through shared memory into the object store of its node, as Arrow tables, while Spark still computes the
    others. A block that Ray loses is computed again from exactly the partition it came from, and its rows are checked.

    Parameters
    ----------
    df : pyspark.sql.DataFrame
        A frame of a session of :func:`raydp_ml.init_spark`. Frames of other sessions (local, YARN, Kubernetes, Spark Connect) cross
        through the driver, a partition at a time and in pieces of about 8 MB, or through ``fs_directory``: without locality, and a
        lost block is lost.
        A pandas-on-Spark frame is taken as its Spark frame.
    parallelism : int, optional
        Number of partitions to convert. None: as they are, small neighbours sharing a block of 1 MB. Fewer than the frame has put
        neighbours together; for more, the rows are distributed anew.
    vectors : "tensor", "list" or "sparse", default "tensor"
        How ML vectors arrive. "tensor": as Arrow's fixed-shape tensors, of which Ray Data makes matrices in numpy batches; where a
        vector is null, as "list". "list": as fixed-size lists. "sparse": as :mod:`raydp_ml.exchange.sparse` has it, which costs as
        much as is set in them.
    vector_sizes : dict, optional
        Array columns whose rows all have the given length, which then arrive as fixed-size lists. ML vector columns need not be
        named, unless ``fs_directory`` is used.
    fs_directory : str, optional
        For frames of other sessions: a folder that Spark's executors and Ray's nodes share (a path, or a URI such as ``s3://...``).
        Spark writes Parquet files into it, Ray reads them, and they are removed.

    Returns
    -------
    ray.data.MaterializedDataset
        Its rows have the order of the frame, unless ``parallelism`` makes more partitions of it. Its blocks live until
        ``stop_spark()``, or with ``stop_spark(cleanup_data=False)`` until the driver ends.

    Raises
    ------
    InvalidTypeError
        When ``df`` is no Spark DataFrame, or a column has a type that Arrow has no counterpart for.
    SessionStoppedError
        When the frame's session is stopped.

    Examples
    --------
    >>> import raydp_ml
    >>> spark = raydp_ml.init_spark("doc", 1, 1, "512m")  # doctest: +SKIP
    >>> raydp_ml.from_spark(spark.range(3)).take_all()  # doctest: +SKIP
    [{'id': 0}, {'id': 1}, {'id': 2}]
    """
    frame = ExportableFrame.of(df, vector_sizes, vectors)
    if parallelism is not None and (
        isinstance(parallelism, bool) or not isinstance(parallelism, int) or parallelism < 1
    ):
        raise InvalidValueError(f"parallelism={parallelism!r} must be a whole number of at least 1, or None")
    if fs_directory is not None and (not isinstance(fs_directory, str) or not fs_directory):
        raise InvalidTypeError(f"fs_directory={fs_directory!r} must be a path or a URI")
    context = frame.context
    with waiting_for("Spark computes the rows, which cross to Ray"):
        return _cross(frame, context, parallelism, fs_directory)


def _cross(
    frame: ExportableFrame, context: ExchangeContext | None, parallelism: int | None, fs_directory: str | None
) -> ray.data.MaterializedDataset:
    if context is None:
        from raydp_ml.exchange.through_driver import dataset_through_driver, dataset_through_folder

        if parallelism is not None:
            frame = replace(frame, df=frame.df.repartition(parallelism))
        return dataset_through_driver(frame) if fs_directory is None else dataset_through_folder(frame, fs_directory)
    if fs_directory is not None:
        raise InvalidValueError("fs_directory is for frames of other sessions; this one crosses through shared memory")
    return _Export(context, frame, parallelism or 0).run(_SMALLEST_BLOCK if parallelism is None else 0)


def from_spark_recoverable(
    df: pyspark.sql.DataFrame,
    storage_level: pyspark.StorageLevel | None = None,
    parallelism: int | None = None,
    *,
    vectors: VectorForm = "tensor",
) -> ray.data.MaterializedDataset:
    """Persist a Spark DataFrame and convert it: a lost block is then read from Spark's cache instead of being computed again.

    Parameters
    ----------
    df : pyspark.sql.DataFrame
        A frame of a session of :func:`raydp_ml.init_spark`.
    storage_level : pyspark.StorageLevel, optional
        Where Spark keeps the rows; None: memory and disk.
    parallelism : int, optional
        As in :func:`from_spark`.
    vectors : "tensor", "list" or "sparse", default "tensor"
        As in :func:`from_spark`.

    Returns
    -------
    ray.data.MaterializedDataset
        Give it to :func:`release_spark_recoverable` to let Spark's copy go.
    """
    from pyspark import StorageLevel

    df = spark_frame(df)
    persisted = df.persist(storage_level if storage_level is not None else StorageLevel.MEMORY_AND_DISK)
    dataset = from_spark(persisted, parallelism, vectors=vectors)
    dataset._raydp_ml_persisted = persisted
    return dataset


def release_spark_recoverable(ds: ray.data.Dataset) -> None:
    """Unpersist the frame behind a Dataset of :func:`from_spark_recoverable`. The blocks stay.

    Parameters
    ----------
    ds : ray.data.Dataset
        What :func:`from_spark_recoverable` returned.

    Raises
    ------
    InvalidValueError
        When the Dataset has no persisted frame, or was released before.
    """
    persisted = ds.__dict__.pop("_raydp_ml_persisted", None)
    if persisted is None:
        raise InvalidValueError("ds is no Dataset of from_spark_recoverable, or it was released before")
    persisted.unpersist()


class _Limit:
    """The first rows of a frame that Spark computes a few partitions at a time (``runUntil`` of Exporter.scala)."""

    def __init__(self, rows: int) -> None:
        self._left = rows
        self._next = 0

    def take(self, ended: list[StagedPartition]) -> tuple[list[StagedPartition], list[StagedPartition]]:
        """The partitions before which none is missing, each with the rows that are taken of it; and the others."""
        taken, others = [], []
        for partition in sorted(ended, key=lambda partition: partition.partition):
            if partition.partition != self._next:
                others.append(partition)
                continue
            self._next += 1
            rows = min(self._left, partition.rows)
            self._left -= rows
            if rows:
                taken.append(replace(partition, taken=rows))
        return taken, others


class _Export:
    """One conversion: a Spark job whose partitions are imported while it runs."""

    def __init__(self, context: ExchangeContext, frame: ExportableFrame, parallelism: int) -> None:
        self._context = context
        self._id = context.new_id("export")
        self._sizes = dict(frame.sizes)
        self._open = set(frame.vectors)
        self._tensors = frame.tensors
        self._waiting: list[StagedPartition] = []
        self._tasks = TaskPlanner(_ENOUGH_FOR_A_TASK)
        # Places of blocks in the Dataset, and what makes them.
        self._loads: list[tuple[list[tuple[int, int]], ray.ObjectRef]] = []
        self._on_disk = 0
        self._limit: _Limit | None = None
        self._exporter = frame.exporter(self._id, parallelism)

    def run(self, smallest_block: int) -> ray.data.MaterializedDataset:
        """Convert, and give the Dataset, which holds the blocks from then on."""
        forget_unused(self._context)
        self._context.running.add(self._id)
        try:
            return self._convert(smallest_block)
        finally:
            self._context.running.discard(self._id)

    def _convert(self, smallest_block: int) -> ray.data.MaterializedDataset:
        schema = pa.ipc.open_stream(bytes(self._exporter.arrowSchema())).schema
        planner = BlockPlanner(smallest_block)
        self._context.exports[self._id] = self._exporter
        finished = False
        try:
            self._exporter.start()
            while not finished:
                finished = self._take_message(planner)
            self._submit_waiting(planner)
            self._submit(planner.finish())
            self._load(self._tasks.finish())
            loaded = ray.get([load for _, load in self._loads])
            if self._limit is not None:
                self._discard_staged()
        except BaseException:
            if not finished:
                self._exporter.cancel()
            self._context.exports.pop(self._id, None)
            self._discard_staged()
            raise
        blocks = [
            block
            for (keys, _), made in zip(self._loads, loaded, strict=True)
            for block in zip(keys, *made, strict=True)
        ]
        blocks.sort(key=lambda block: block[0])
        if self._on_disk:
            warnings.warn(
                f"{self._on_disk} of {len(blocks)} blocks went over the disk, because the staging folder in memory (/dev/shm, or "
                "spark.ray.staging.dir) had no room for them",
                stacklevel=3,
            )
        infos = [info for _, _, info in blocks]
        lists = frozenset(name for info in infos for name in info.lists)
        refs = self._all_with_lists([ref for _, ref, _ in blocks], infos, lists)
        # The Arrow schema with the vectors' lengths; also the one block of a frame without rows.
        empty = with_vectors(schema.empty_table(), self._sizes)
        empty = all_as_tensors(empty, [name for name in self._known_tensors() if name not in lists])
        if not refs:
            refs, infos = [ray.put(empty)], [BlockInfo(0, 0)]
        dataset = dataset_from_blocks(refs, infos, empty.schema)
        return for_client(dataset) if is_client() else dataset

    def _take_message(self, planner: BlockPlanner) -> bool:
        """Handle one message of the job; True when it was the last."""
        message = self._exporter.poll(_POLL_MILLISECONDS)
        if message is None:
            self._context.require_alive()
            return False
        told = json.loads(message)
        if told["op"] == "error":
            lines = [line for line in told["reason"].splitlines() if not line.startswith("\t")]
            raise RaydpMLError("the Spark job that computes the frame failed:\n" + "\n".join(lines))
        if told["op"] == "limited":
            self._limit = _Limit(told["rows"])
        if told["op"] == "partition":
            staged = StagedPartition.parse(message)
            self._learn_sizes(staged)
            self._on_disk += staged.on_disk
            self._waiting.append(staged.at(*self._context.locate(staged.executor)))
            if not self._open:
                self._submit_waiting(planner)
        return told["op"] == "done"

    def _submit_waiting(self, planner: BlockPlanner) -> None:
        waiting, self._waiting = self._waiting, []
        if self._limit is not None:
            waiting, self._waiting = self._limit.take(waiting)
        for partition in waiting:
            self._submit(planner.add(partition))

    def _discard_staged(self) -> None:
        for host in self._context.hosts():
            host.discard_staged.remote(self._id)

    def _learn_sizes(self, staged: StagedPartition) -> None:
        for name, size in staged.vector_sizes.items():
            if self._sizes.setdefault(name, size) != size:
                raise InvalidValueError(f"column {name!r} holds vectors of {self._sizes[name]} and of {size} elements")
            self._open.discard(name)

    def _known_tensors(self) -> tuple[str, ...]:
        return tuple(name for name in self._tensors if name in self._sizes)

    def _all_with_lists(
        self, blocks: list[ray.ObjectRef], infos: list[BlockInfo], lists: frozenset[str]
    ) -> list[ray.ObjectRef]:
        """One type for all blocks: a vector that is null in one of them makes lists of the column in the others."""
        same = []
        for block, info in zip(blocks, infos, strict=True):
            others = lists.difference(info.lists)
            if others:
                [block] = ray.get(self._context.owner.relist.remote(self._id, [block], tuple(sorted(others))))
            same.append(block)
        return same

    def _submit(self, blocks: list[list[Piece]]) -> None:
        for pieces in blocks:
            pieces = [piece for piece in pieces if piece.rows]
            if not pieces:
                continue
            spec = BlockSpec(
                self._id, tuple(pieces), dict(self._sizes), self._known_tensors(), self._context.recompute_timeout
            )
            self._load(self._tasks.add(spec))

    def _load(self, tasks: list[list[BlockSpec]]) -> None:
        for specs in tasks:
            keys = [(spec.pieces[0].source.partition, spec.pieces[0].index) for spec in specs]
            self._loads.append((keys, self._context.owner.load.remote(specs)))
