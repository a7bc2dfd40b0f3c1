"""from_spark for frames of Spark sessions that raydp_ml did not start: Arrow through the driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from raydp_ml.exchange.blocks import BlockInfo, with_vectors
from raydp_ml.exchange.ray_seam import dataset_from_blocks

if TYPE_CHECKING:
    import pyspark.sql
    import ray.data


def dataset_through_driver(
    df: pyspark.sql.DataFrame, vectors: list[str], sizes: dict[str, int]
) -> ray.data.MaterializedDataset:
    """Collect a frame as Arrow and put it into the object store.

    Parameters
    ----------
    df : pyspark.sql.DataFrame
        The frame, ML vectors already turned into arrays.
    vectors : list of str
        Columns that were ML vectors.
    sizes : dict
        Length of the vectors by column, where it is known.
    """
    import ray

    if hasattr(df, "toArrow"):
        table = df.toArrow()
    else:
        # Spark 3.5 has no public toArrow.
        batches = getattr(df, "_collect_as_arrow")()  # noqa: B009
        table = pa.Table.from_batches(batches) if batches else pa.Table.from_pandas(df.limit(0).toPandas())
    sizes = dict(sizes)
    for name in vectors:
        column = table[name].drop_null()
        if name not in sizes and len(column):
            sizes[name] = len(column[0])
    table = with_vectors(table, sizes)
    return dataset_from_blocks([ray.put(table)], [BlockInfo(table.num_rows, table.nbytes)], table.schema)
