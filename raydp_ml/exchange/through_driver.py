"""from_spark for frames of Spark sessions that raydp_ml did not start: Arrow in pieces through the driver, or a shared folder."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
import ray
import ray.data

from raydp_ml.exchange.blocks import BlockInfo, all_as_tensors, as_lists, as_tensors, with_vectors
from raydp_ml.exchange.exportable import ExportableFrame
from raydp_ml.exchange.ray_seam import dataset_from_blocks
from raydp_ml.exchange.types import with_known_zones

if TYPE_CHECKING:
    import pyspark.sql

# Of one piece: it is a value in a row of Spark, and is in the driver's memory a few times over.
_PIECE_BYTES = 8 << 20


def dataset_through_driver(frame: ExportableFrame) -> ray.data.MaterializedDataset:
    """Take a frame partition by partition, and put each piece into the object store when it comes.

    Only public PySpark is used, so that frames of Spark Connect work too.

    Parameters
    ----------
    frame : ExportableFrame
        The frame.
    """
    sizes, unknown = dict(frame.sizes), set(frame.vectors)
    refs: list[ray.ObjectRef] = []
    infos: list[BlockInfo] = []

    def put(table: pa.Table) -> None:
        block, lists = as_tensors(with_vectors(table, sizes), [name for name in frame.tensors if name in sizes])
        refs.append(ray.put(block))
        infos.append(BlockInfo(block.num_rows, block.nbytes, lists))

    held: list[pa.Table] = []
    for piece in _pieces(frame.df):
        for name in sorted(unknown):
            column = piece[name].drop_null()
            if len(column):
                sizes[name] = len(column[0])
                unknown.discard(name)
        held.append(piece)
        if not unknown:
            while held:
                put(held.pop(0))
    empty = _empty(frame.df)
    for piece in held if held or refs else [empty]:
        put(piece)
    # One type for all blocks: a vector that is null in one of them makes lists of the column in the others.
    lists = frozenset(name for info in infos for name in info.lists)
    for index, info in enumerate(infos):
        if others := lists.difference(info.lists):
            refs[index] = ray.put(as_lists(ray.get(refs[index]), sorted(others)))
    tensors = [name for name in frame.tensors if name in sizes and name not in lists]
    return dataset_from_blocks(refs, infos, all_as_tensors(with_vectors(empty, sizes), tensors).schema)


def _pieces(df: pyspark.sql.DataFrame) -> Iterator[pa.Table]:
    """The rows in order: executors make Arrow streams of them, which come to the driver as values of an ordinary frame."""
    piece_bytes = _PIECE_BYTES

    # Nested, so that it travels by value: raydp_ml need not be installed where these executors run.
    def to_streams(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow

        def stream(together: list[pyarrow.RecordBatch]) -> pyarrow.RecordBatch:
            sink = pyarrow.BufferOutputStream()
            with pyarrow.ipc.new_stream(sink, together[0].schema) as writer:
                # One batch, so that the block has one chunk.
                writer.write_table(pyarrow.Table.from_batches(together).combine_chunks())
            return pyarrow.RecordBatch.from_pydict({"piece": [sink.getvalue().to_pybytes()]})

        together, size = [], 0
        for batch in batches:
            together.append(batch)
            size += batch.nbytes
            if size >= piece_bytes:
                yield stream(together)
                together, size = [], 0
        if together:
            yield stream(together)

    for row in df.mapInArrow(to_streams, "piece binary").toLocalIterator():
        yield with_known_zones(pa.ipc.open_stream(bytes(row.piece)).read_all())


def _empty(df: pyspark.sql.DataFrame) -> pa.Table:
    if hasattr(df, "toArrow"):
        return with_known_zones(df.limit(0).toArrow())
    # Spark 3.5 has no public way.
    from pyspark.sql.pandas.types import to_arrow_schema

    return with_known_zones(to_arrow_schema(df.schema).empty_table())


def dataset_through_folder(frame: ExportableFrame, folder: str) -> ray.data.MaterializedDataset:
    """Have Spark write Parquet files that Ray reads, and remove them.

    Parameters
    ----------
    frame : ExportableFrame
        The frame.
    folder : str
        A folder that both Spark's executors and Ray's nodes reach, in a form that both understand: a path or a URI.
    """
    from pyarrow import fs

    place = f"{folder.rstrip('/')}/raydp-ml-{uuid.uuid4().hex}"
    try:
        frame.df.write.parquet(place)
        read = ray.data.read_parquet(place, ray_remote_args={"num_cpus": 0})
        schema, sizes = _empty(frame.df).schema, frame.sizes
        tensors = [name for name in frame.tensors if name in sizes]

        def as_declared(table: pa.Table) -> pa.Table:
            return all_as_tensors(with_vectors(table.cast(schema), sizes), tensors)

        return read.map_batches(as_declared, batch_format="pyarrow", batch_size=None, num_cpus=0).materialize()
    finally:
        system, path = fs.FileSystem.from_uri(place if "://" in place else f"file://{place}")
        if system.get_file_info(path).type != fs.FileType.NotFound:
            system.delete_dir(path)
