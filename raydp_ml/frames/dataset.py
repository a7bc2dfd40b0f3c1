"""Ray Datasets."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from raydp_ml.errors import InvalidValueError
from raydp_ml.frames.arrays import Blocks
from raydp_ml.frames.columns import Column, Selection, require_column
from raydp_ml.frames.frame import Frame
from raydp_ml.frames.table import TableFrame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import ray.data
    from pyspark.sql import DataFrame, SparkSession

    from raydp_ml.frames.prediction import Predictor

__all__ = ["DatasetFrame", "quiet_data"]


@contextmanager
def quiet_data(dataset: ray.data.Dataset) -> Iterator[None]:
    """Run a Dataset in the order of its rows, without progress bars and reports of them."""
    context, logger = dataset.context, logging.getLogger("ray.data")
    level = logger.level
    before = context.execution_options.preserve_order, context.enable_progress_bars
    context.execution_options.preserve_order, context.enable_progress_bars = True, False
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        context.execution_options.preserve_order, context.enable_progress_bars = before


class DatasetFrame(Frame):
    """A Ray Dataset, lazy or materialized."""

    kind: ClassVar[str] = "Ray Dataset"
    distributed: ClassVar[bool] = True

    def __init__(self, dataset: ray.data.Dataset) -> None:
        self.dataset = dataset

    def columns_now(self) -> list[Column] | None:
        """Describe the columns if that needs no computation, which a lazy Dataset may need."""
        schema = self.dataset.schema(fetch_if_missing=False)
        return None if schema is None or not isinstance(schema.base_schema, pa.Schema) else self.columns()

    def columns(self) -> list[Column]:
        """Describe the columns; a lazy Dataset computes its first block for that."""
        with quiet_data(self.dataset):
            schema = self.dataset.schema()
            base = getattr(schema, "base_schema", None)
            if base is None:
                raise InvalidValueError("the Ray Dataset is empty: it has no rows and no columns to train on")
            if not isinstance(base, pa.Schema):
                base = pa.Table.from_pandas(self.dataset.limit(100).to_pandas(), preserve_index=False).schema
        return TableFrame(base.empty_table()).columns()

    def drop(self, names: Sequence[str]) -> ray.data.Dataset:
        """The Dataset without some columns; a lazy one stays lazy."""
        return self.dataset.drop_columns(list(names))

    def count(self) -> int:
        """How many rows there are."""
        with quiet_data(self.dataset):
            return int(self.dataset.count())

    def vector_width(self, name: str) -> int:
        """The length of the first vector."""
        with quiet_data(self.dataset):
            return TableFrame(self._first(name)).vector_width(name)

    def _first(self, name: str) -> pa.Table:
        batch = self.dataset.select_columns([name]).take_batch(100, batch_format="pyarrow")
        return batch if isinstance(batch, pa.Table) else pa.table(batch)

    def load(self, selection: Selection) -> Blocks:
        """The selected columns, computed once."""
        from raydp_ml.exchange.ray_seam import blocks_of

        dataset = self.dataset
        with quiet_data(dataset):
            if not type(dataset).__name__.startswith("Materialized"):
                dataset = dataset.select_columns(selection.columns).materialize()
            blocks = [block for bundle in dataset.iter_internal_ref_bundles() for block in blocks_of(bundle)]
        sizes = [metadata.size_bytes for _, metadata in blocks]
        size = None if None in sizes else sum(sizes)
        return Blocks([ref for ref, _ in blocks], selection, keep_alive=dataset, size_bytes=size)

    def with_predictions(self, predictor: Predictor, selection: Selection, output: str, name: str) -> ray.data.Dataset:
        """The Dataset with a column of predictions, computed when it is read."""
        import ray

        return self.dataset.map_batches(
            _predict_batch,
            batch_format="pyarrow",
            zero_copy_batch=True,
            fn_kwargs={
                "predictor": ray.put(predictor.to_bytes()),
                "selection": selection,
                "output": output,
                "name": name,
            },
        )

    def pull(self, names: list[str]) -> dict[str, np.ndarray]:
        """Columns as numpy."""
        import ray

        with quiet_data(self.dataset):
            tables = [ray.get(ref) for ref in self.dataset.select_columns(names).to_arrow_refs()]
        return TableFrame(pa.concat_tables(tables, promote_options="default")).pull(names)

    def to_spark(self, session: Callable[[], SparkSession]) -> DataFrame:
        """The rows as a Spark DataFrame."""
        from raydp_ml.exchange import to_spark

        rows: DataFrame = to_spark(self.dataset, session())
        return rows

    def give_back(self, result: DataFrame) -> ray.data.Dataset:
        """A Spark DataFrame as a Ray Dataset."""
        from raydp_ml.exchange import from_spark

        return from_spark(result)


@lru_cache(maxsize=4)
def _predictor_of(payload: bytes) -> Predictor:
    import pickle

    predictor: Predictor = pickle.loads(payload)
    return predictor


def _predict_batch(batch: pa.Table, predictor: Any, selection: Selection, output: str, name: str) -> pa.Table:
    import ray

    frame = TableFrame(batch)
    present = {column.name: column for column in frame.columns()}
    for feature in selection.features:
        require_column(present, feature.name, "feature_columns", DatasetFrame.kind)
    payload = ray.get(predictor) if isinstance(predictor, ray.ObjectRef) else predictor
    return frame.with_predictions(_predictor_of(payload), selection, output, name)
