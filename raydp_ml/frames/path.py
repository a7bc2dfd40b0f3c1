"""Paths of files that Spark reads."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.frames.frame import Frame

if TYPE_CHECKING:
    import numpy as np
    from pyspark.sql import DataFrame, SparkSession

    from raydp_ml.frames.arrays import Blocks
    from raydp_ml.frames.columns import Column, Selection
    from raydp_ml.frames.prediction import Predictor

__all__ = ["PathFrame"]


class PathFrame(Frame):
    """A parquet or CSV file, or a directory of them, which a pipeline reads with its Spark session."""

    kind: ClassVar[str] = "path"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)

    def refuse(self) -> NoReturn:
        """Raise: what is not a pipeline does not read files."""
        raise InvalidTypeError(
            f"X is the string {self.path!r}; only pipelines read paths: give an estimator spark.read.parquet(path), or a frame "
            "or array"
        )

    def columns(self) -> list[Column]:
        """Raises: nothing is read before a session is there."""
        self.refuse()

    def vector_width(self, name: str) -> int:
        """Raises, as :meth:`columns`."""
        self.refuse()

    def load(self, selection: Selection) -> Blocks:
        """Raises, as :meth:`columns`."""
        self.refuse()

    def with_predictions(self, predictor: Predictor, selection: Selection, output: str, name: str) -> Any:
        """Raises, as :meth:`columns`."""
        self.refuse()

    def pull(self, names: list[str]) -> dict[str, np.ndarray]:
        """Raises, as :meth:`columns`."""
        self.refuse()

    def to_spark(self, session: Callable[[], SparkSession]) -> DataFrame:
        """The rows of the files."""
        target, names = self.path, [self.path]
        if "://" not in self.path:
            local = Path(self.path).expanduser().absolute()
            if not local.exists():
                raise InvalidValueError(f"there is no file or directory {self.path}")
            target = f"file://{local}"
            names = [file.name for file in local.iterdir()] if local.is_dir() else names
        reader = session().read
        if any(name.endswith((".csv", ".csv.gz")) for name in names):
            return reader.csv(target, header=True, inferSchema=True)
        return reader.parquet(target)
