"""to_spark: a Ray Dataset becomes a Spark DataFrame over its blocks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import ray
from ray.data.block import BlockAccessor

from raydp_ml.errors import InvalidTypeError, InvalidValueError, SessionStoppedError
from raydp_ml.exchange import context as contexts
from raydp_ml.exchange.connect import is_connect
from raydp_ml.exchange.ray_client import require_cluster_driver
from raydp_ml.exchange.ray_seam import blocks_of, bundles_of
from raydp_ml.exchange.types import readable_schema, spark_schema

if TYPE_CHECKING:
    import pyspark.sql
    import ray.data

_SOURCE = "org.apache.spark.sql.raydpml.RayBlockSource"


def to_spark(ds: ray.data.Dataset, spark: pyspark.sql.SparkSession | None = None) -> pyspark.sql.DataFrame:
    """Read a Ray Dataset as a Spark DataFrame.

    The rows stay in Ray's object store: an executor maps the columns that a query needs, block by block. The blocks live for as
    long as any DataFrame over them does.

    Parameters
    ----------
    ds : ray.data.Dataset
        The Dataset; a lazy one is executed.
    spark : pyspark.sql.SparkSession, optional
        A session of :func:`raydp_ml.init_spark`; None: the active one.

    Returns
    -------
    pyspark.sql.DataFrame
        A partition has one block or neighbouring ones, up to ``spark.sql.files.maxPartitionBytes`` (128 MiB) and as long as
        every core has something to read. Tensors are arrays. The frame has the columns of all blocks, null where a block lacks one,
        in types that hold the values of all.

    Raises
    ------
    InvalidTypeError
        When ``ds`` is no Ray Dataset or a column has no counterpart in Spark.
    SessionStoppedError
        When there is no session.

    Examples
    --------
    >>> import ray, raydp_ml
    >>> raydp_ml.to_spark(ray.data.range(3)).count()  # doctest: +SKIP
    3
    """
    if not type(ds).__module__.startswith("ray.data"):
        raise InvalidTypeError(
            f"ds is a {type(ds).__module__}.{type(ds).__name__}, but to_spark takes a ray.data.Dataset"
        )
    require_cluster_driver("to_spark")
    _, context = _context(spark)
    context.require_alive()
    refs, rows, sizes = [], [], []
    schemas: list[object] = []
    try:
        # Executing a Dataset takes at least one CPU, and executors with tasks may hold all.
        with context.ask_for(1.0):
            for bundle in bundles_of(ds):
                # A block without rows may have no columns either.
                if bundle.schema is not None and bundle.schema.names and bundle.schema not in schemas:
                    schemas.append(bundle.schema)
                for ref, metadata in blocks_of(bundle):
                    refs.append(ref)
                    rows.append(-1 if metadata.num_rows is None else metadata.num_rows)
                    sizes.append(-1 if metadata.size_bytes is None else metadata.size_bytes)
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise InvalidTypeError(f"the blocks of ds have types that do not fit together: {error}") from error
    if not schemas:
        known = ds.schema()
        if known is None:
            raise InvalidValueError("ds has no rows and no schema, so it has no columns that Spark could show")
        schemas.append(known.base_schema)
    return frame_over_blocks(spark, _common_schema(schemas, refs), refs, rows, sizes)


def frame_over_blocks(
    spark: pyspark.sql.SparkSession | None,
    schema: object,
    refs: Sequence[ray.ObjectRef],
    rows: Sequence[int] | None = None,
    sizes: Sequence[int] | None = None,
) -> pyspark.sql.DataFrame:
    """A DataFrame over blocks of one schema.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession or None
        The session; None: the active one.
    schema : pyarrow.Schema or Ray's schema of pandas blocks
        Schema of the blocks.
    refs : sequence of ObjectRef
        The blocks, Arrow or pandas.
    rows : sequence of int, optional
        Row count of each block; None or -1: not known.
    sizes : sequence of int, optional
        Bytes of each block; None or -1: not known.
    """
    session, context = _context(spark)
    context.require_alive()
    arrow = _common_schema([schema], refs)
    fields = spark_schema(arrow)
    lease = f"{context.app_id}-{context.new_id('lease')}"
    ray.get(context.owner.lend.remote(lease, list(refs), readable_schema(arrow)))
    blocks = [
        {
            "rows": -1 if rows is None else rows[i],
            "bytes": stored if sizes is None or sizes[i] < 0 else sizes[i],
            "nodes": nodes,
        }
        for i, (stored, nodes) in enumerate(_places(refs))
    ]
    reader = session.read.format(_SOURCE).schema(fields)
    try:
        frame = reader.option("lease", lease).option("blocks", json.dumps(blocks)).load()
    except BaseException:
        context.owner.release.remote(lease)
        raise
    context.collector.watch(frame, lease)
    return frame


def _context(spark: pyspark.sql.SparkSession | None) -> tuple[pyspark.sql.SparkSession, contexts.ExchangeContext]:
    """The session that was given, else the active one; and its application."""
    from pyspark.sql import SparkSession

    spark = spark or SparkSession.getActiveSession()
    if spark is not None and is_connect(spark):
        context = None
    elif spark is None or spark.sparkContext._jsc is None:
        raise SessionStoppedError("there is no running Spark session; start one with raydp_ml.init_spark")
    else:
        context = contexts.of_session(spark)
    if context is None:
        raise InvalidValueError(
            "to_spark needs a session of raydp_ml.init_spark, because its executors read Ray's object store"
        )
    return spark, context


@ray.remote(num_cpus=0)
def _block_schema(block: object) -> pa.Schema:
    return BlockAccessor.for_block(block).to_arrow().schema


def _common_schema(schemas: Sequence[object], refs: Sequence[ray.ObjectRef]) -> pa.Schema:
    """One Arrow schema for blocks whose own may differ, as after a union; that of pandas blocks is known only from their values."""
    arrow = [schema for schema in schemas if isinstance(schema, pa.Schema)]
    if len(arrow) < len(schemas):
        arrow = ray.get([_block_schema.remote(ref) for ref in refs])
    if len(arrow) == 1:
        return arrow[0]
    try:
        # As Spark reads them, because tensors of two shapes have different types in Arrow and one in Spark.
        return pa.unify_schemas([readable_schema(schema) for schema in arrow], promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise InvalidTypeError(f"the blocks of ds have types that do not fit together: {error}") from error


def _places(refs: Sequence[ray.ObjectRef]) -> list[tuple[int, list[str]]]:
    """Bytes of each block (-1: not known), and addresses of the nodes that hold it, which Spark prefers for its task."""
    address = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    locations = ray.experimental.get_object_locations(list(refs)) if refs else {}
    places = []
    for ref in refs:
        nodes = [address[node] for node in locations[ref]["node_ids"] if node in address]
        # Where there is one node, Spark need not wait for it.
        places.append((locations[ref].get("object_size") or -1, nodes if len(set(address.values())) > 1 else []))
    return places
