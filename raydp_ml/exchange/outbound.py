"""from_spark: a Spark DataFrame becomes a Ray Dataset, through shared memory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray

from raydp_ml.errors import InvalidTypeError, InvalidValueError, RaydpMLError, SessionStoppedError
from raydp_ml.exchange import context as contexts
from raydp_ml.exchange.blocks import BlockInfo, BlockSpec, Piece, StagedPartition, with_vectors
from raydp_ml.exchange.context import ExchangeContext
from raydp_ml.exchange.planner import BlockPlanner
from raydp_ml.exchange.ray_seam import dataset_from_blocks

if TYPE_CHECKING:
    import pyspark
    import pyspark.sql
    import ray.data

_SMALLEST_BLOCK = 1 << 20
_POLL_MILLISECONDS = 100


def from_spark(
    df: pyspark.sql.DataFrame, parallelism: int | None = None, *, vector_sizes: dict[str, int] | None = None
) -> ray.data.MaterializedDataset:
    """Convert a Spark DataFrame to a Ray Dataset.

    Each partition goes through shared memory into the object store of its node, as Arrow tables, while Spark still computes the
    others. A block that Ray loses is computed again from exactly the partition it came from, and its rows are checked.

    Parameters
    ----------
    df : pyspark.sql.DataFrame
        A frame of a session of :func:`raydp_ml.init_spark`. Frames of other sessions are converted through the driver, without
        locality and without recovery by recompute. A pandas-on-Spark frame is taken as its Spark frame.
    parallelism : int, optional
        Number of partitions to convert. None: as they are, small neighbours sharing a block of 1 MB.
    vector_sizes : dict, optional
        Array columns whose rows all have the given length, which then arrive as fixed-size lists. ML vector columns need not be
        named.

    Returns
    -------
    ray.data.MaterializedDataset
        Its blocks live until ``stop_spark()``, or with ``stop_spark(cleanup_data=False)`` until the driver ends.

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
    df = _spark_frame(df)
    context = _context(df)
    if context is not None:
        context.require_alive()
    if parallelism is not None and (
        isinstance(parallelism, bool) or not isinstance(parallelism, int) or parallelism < 1
    ):
        raise InvalidValueError(f"parallelism={parallelism!r} must be a whole number of at least 1, or None")
    _check_columns(df)
    sizes = dict(vector_sizes or {})
    unknown = sorted(set(sizes) - set(df.columns))
    if unknown:
        raise InvalidValueError(f"vector_sizes names the columns {unknown}, but the frame has {df.columns}")
    vectors = _vector_columns(df)
    if vectors and not _encodes_vectors(context, df):
        df = _vectors_as_arrays(df, vectors)
    if context is None:
        from raydp_ml.exchange.through_driver import dataset_through_driver

        return dataset_through_driver(df, vectors, sizes)
    if parallelism is not None:
        present = df.rdd.getNumPartitions()
        df = df.repartition(parallelism) if parallelism > present else df.coalesce(parallelism)
    export = _Export(context, df, [name for name in vectors if name not in sizes], sizes)
    return export.run(_SMALLEST_BLOCK if parallelism is None else 0)


def from_spark_recoverable(
    df: pyspark.sql.DataFrame,
    storage_level: pyspark.StorageLevel | None = None,
    parallelism: int | None = None,
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

    Returns
    -------
    ray.data.MaterializedDataset
        Give it to :func:`release_spark_recoverable` to let Spark's copy go.
    """
    from pyspark import StorageLevel

    df = _spark_frame(df)
    persisted = df.persist(storage_level if storage_level is not None else StorageLevel.MEMORY_AND_DISK)
    dataset = from_spark(persisted, parallelism)
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


def _spark_frame(df: Any) -> pyspark.sql.DataFrame:
    module = type(df).__module__
    if module.startswith("pyspark.pandas"):
        df = df.to_spark()
        module = type(df).__module__
    if not module.startswith("pyspark.sql") or type(df).__name__ != "DataFrame":
        raise InvalidTypeError(f"df is a {module}.{type(df).__name__}, but from_spark takes a pyspark.sql.DataFrame")
    return df


def _check_columns(df: pyspark.sql.DataFrame) -> None:
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql.types import UserDefinedType

    if not df.columns:
        raise InvalidValueError("the frame has no columns, and a Ray Dataset cannot hold rows without columns")
    repeated = sorted({name for name in df.columns if df.columns.count(name) > 1})
    if repeated:
        raise InvalidValueError(f"the frame has several columns named {repeated}; rename them first")
    for column in df.schema.fields:
        if isinstance(column.dataType, UserDefinedType) and not isinstance(column.dataType, VectorUDT):
            raise InvalidTypeError(
                f"column {column.name!r} has the user-defined type {type(column.dataType).__name__}; select its parts instead"
            )


def _vector_columns(df: pyspark.sql.DataFrame) -> list[str]:
    from pyspark.ml.linalg import VectorUDT

    return [column.name for column in df.schema.fields if isinstance(column.dataType, VectorUDT)]


def _encodes_vectors(context: ExchangeContext | None, df: pyspark.sql.DataFrame) -> bool:
    """Whether the JVM takes the frame's ML vectors as they are, which saves a function call per row."""
    if context is None:
        return False
    jvm: Any = context.spark._jvm
    return jvm.org.apache.spark.sql.raydpml.Exporter.encodesVectors(df._jdf.schema())


def _vectors_as_arrays(df: pyspark.sql.DataFrame, vectors: list[str]) -> pyspark.sql.DataFrame:
    from pyspark.ml.functions import vector_to_array
    from pyspark.sql import functions as F

    columns = {name: df[_quoted(name)] for name in vectors}
    # vector_to_array refuses nulls; a when without otherwise keeps them.
    return df.withColumns({name: F.when(c.isNotNull(), vector_to_array(c)) for name, c in columns.items()})


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _context(df: pyspark.sql.DataFrame) -> ExchangeContext | None:
    if type(df).__module__.startswith("pyspark.sql.connect"):
        return None
    session = df.sparkSession
    if session.sparkContext._jsc is None:
        raise SessionStoppedError(
            "the Spark session of this frame is stopped; start one with init_spark and make the frame anew"
        )
    return contexts.of_session(session)


class _Export:
    """One conversion: a Spark job whose partitions are imported while it runs."""

    def __init__(
        self, context: ExchangeContext, df: pyspark.sql.DataFrame, find_sizes_of: list[str], sizes: dict[str, int]
    ) -> None:
        self._context = context
        self._id = context.new_id("export")
        self._sizes = sizes
        self._open = set(find_sizes_of)
        self._waiting: list[StagedPartition] = []
        self._loads: list[tuple[tuple[int, int], ray.ObjectRef]] = []
        jvm: Any = context.spark._jvm
        block_bytes = ray.data.DataContext.get_current().target_max_block_size or (128 << 20)
        self._exporter = jvm.org.apache.spark.sql.raydpml.Exporter(
            df._jdf.queryExecution(),
            self._id,
            context.spark.conf.get("spark.sql.session.timeZone"),
            block_bytes,
            find_sizes_of,
        )

    def run(self, smallest_block: int) -> ray.data.MaterializedDataset:
        self._forget_unused()
        schema = pa.ipc.open_stream(bytes(self._exporter.arrowSchema())).schema
        planner = BlockPlanner(smallest_block)
        self._context.exports[self._id] = self._exporter
        finished = False
        try:
            self._exporter.start()
            while not finished:
                finished = self._take_message(planner)
            for partition in self._waiting:
                self._submit(planner.add(partition))
            self._submit(planner.finish())
            blocks = ray.get([load for _, load in self._loads])
        except BaseException:
            if not finished:
                self._exporter.cancel()
            self._context.exports.pop(self._id, None)
            for host in self._context.hosts():
                host.discard_staged.remote(self._id)
            raise
        ordered = sorted(zip((key for key, _ in self._loads), blocks, strict=True), key=lambda block: block[0])
        refs = [refs[0] for _, (refs, _) in ordered]
        infos = [info for _, (_, info) in ordered]
        # The Arrow schema with the vectors' lengths; also the one block of a frame without rows.
        empty = with_vectors(schema.empty_table(), self._sizes)
        if not refs:
            refs, infos = [ray.put(empty)], [BlockInfo(0, 0)]
        return dataset_from_blocks(refs, infos, empty.schema)

    def _forget_unused(self) -> None:
        """Let go of earlier exports whose blocks are all gone: each holds its RDD, and so its shuffle files."""
        exports = self._context.exports
        for export in ray.get(self._context.owner.unused.remote(list(exports))):
            exports.pop(export, None)

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
        if told["op"] == "partition":
            staged = StagedPartition.parse(message)
            self._learn_sizes(staged)
            self._waiting.append(staged.at(*self._context.locate(staged.executor)))
            if not self._open:
                for partition in self._waiting:
                    self._submit(planner.add(partition))
                self._waiting = []
        return told["op"] == "done"

    def _learn_sizes(self, staged: StagedPartition) -> None:
        for name, size in staged.vector_sizes.items():
            if self._sizes.setdefault(name, size) != size:
                raise InvalidValueError(f"column {name!r} holds vectors of {self._sizes[name]} and of {size} elements")
            self._open.discard(name)

    def _submit(self, blocks: list[list[Piece]]) -> None:
        for pieces in blocks:
            spec = BlockSpec(self._id, tuple(pieces), dict(self._sizes), self._context.recompute_timeout)
            key = (pieces[0].source.partition, pieces[0].index)
            self._loads.append((key, self._context.owner.load.remote(spec)))
