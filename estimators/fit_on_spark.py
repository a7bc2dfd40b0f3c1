"""RayDP's ``fit_on_spark``: how the rows of Spark frames come to training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.frames.registry import open_frame
from raydp_ml.frames.spark import SparkFrame
from raydp_ml.frames.sparse import WIDE

__all__ = ["cross_for_training"]


def cross_for_training(
    frames: Sequence[Any], *, fs_directory: str | None, compression: str | None, stop_spark: bool
) -> list[Any]:
    """Spark frames as what ``fit`` is to read: themselves, Parquet files, or Ray Datasets that outlive Spark."""
    in_spark = []
    for given in frames:
        opened = open_frame(given)
        if not isinstance(opened, SparkFrame):
            raise InvalidTypeError(f"fit_on_spark takes Spark frames, got a {type(given).__name__}; use fit")
        in_spark.append(opened.frame)
    if fs_directory is None and compression is not None:
        raise InvalidValueError("compression is for the files in fs_directory, which is not given")
    ready: list[Any] = in_spark
    if fs_directory is not None:
        import ray.data
        from pyspark.ml.functions import vector_to_array
        from pyspark.ml.linalg import VectorUDT

        ready = []
        for name, frame in zip(("train", "test"), in_spark, strict=False):
            vectors = [field.name for field in frame.schema.fields if isinstance(field.dataType, VectorUDT)]
            frame = (
                frame.withColumns({vector: vector_to_array(frame[vector]) for vector in vectors}) if vectors else frame
            )
            place = f"{str(fs_directory).rstrip('/')}/{name}"
            frame.write.mode("overwrite").parquet(place, compression=compression)
            ready.append(ray.data.read_parquet(place.removeprefix("file://")))
    elif stop_spark:
        from raydp_ml.exchange import from_spark

        ready = [from_spark(frame, vectors="sparse" if _has_wide_vectors(frame) else "tensor") for frame in in_spark]
    if stop_spark:
        from raydp_ml.session import stop_spark as stop

        stop(cleanup_data=False)
    return ready


def _has_wide_vectors(frame: Any) -> bool:
    """Whether vectors would be large as dense ones, as far as the schema tells how long they are."""
    return any(column.sparse and (column.width or 0) > WIDE for column in SparkFrame(frame).columns())
