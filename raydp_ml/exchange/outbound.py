"""from_spark: a Spark DataFrame becomes a Ray Dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyspark.sql
    import ray.data


def from_spark(
    df: pyspark.sql.DataFrame, parallelism: int | None = None, *, vector_sizes: dict[str, int] | None = None
) -> ray.data.MaterializedDataset:
    """Copy a Spark DataFrame into Ray's object store."""
    import pyarrow as pa
    import ray.data

    table = df.toArrow() if hasattr(df, "toArrow") else pa.Table.from_batches(df._collect_as_arrow())
    for name, size in (vector_sizes or {}).items():
        column = table[name].combine_chunks()
        fixed = pa.FixedSizeListArray.from_arrays(column.flatten(), size)
        table = table.set_column(table.schema.get_field_index(name), name, fixed)
    return ray.data.from_arrow(table)


def from_spark_recoverable(df: pyspark.sql.DataFrame, storage_level: Any = None, parallelism: int | None = None):
    return from_spark(df, parallelism)


def release_spark_recoverable(ds: ray.data.Dataset) -> None:
    return None
