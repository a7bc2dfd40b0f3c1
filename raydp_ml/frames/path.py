"""Paths of files that Spark reads."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence
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


# How Spark calls the format of a file, by the end of its name.
_FORMATS = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".orc": "orc"}
_COMPRESSED = (".gz", ".bz2", ".zst", ".lz4", ".snappy")
_OPTIONS: dict[str, dict[str, Any]] = {"csv": {"header": True, "inferSchema": True}}
_PACKAGES = {
    "delta": "the jars of Delta Lake (spark.jars or spark.jars.packages, and spark.sql.extensions as its documents say)"
}


class PathFrame(Frame):
    """Files or directories of files, which a pipeline reads with its Spark session.

    Parameters
    ----------
    paths : str, path-like, or sequence of them
        Local paths, patterns with ``*``, ``?`` or ``[...]``, or URIs that Spark reads.
    """

    kind: ClassVar[str] = "path"

    def __init__(self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> None:
        self.paths = [os.fspath(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]

    def refuse(self) -> NoReturn:
        """Raise: what is not a pipeline does not read files."""
        raise InvalidTypeError(
            f"X is {', '.join(map(repr, self.paths))}; only pipelines read paths: give an estimator spark.read.parquet(path), or a "
            "frame or array"
        )

    def columns(self) -> list[Column]:
        """Raises: nothing is read before a session is there."""
        self.refuse()

    def count(self) -> int:
        """Raises, as :meth:`columns`."""
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
        targets: list[str] = []
        formats: dict[str, str] = {}
        for path in self.paths:
            if "://" in path:
                targets.append(path)
                formats.setdefault(_format_of([path]), path)
                continue
            local = Path(path).expanduser().absolute()
            found = (
                [Path(item) for item in glob.glob(str(local))]
                if glob.has_magic(path) and not local.exists()
                else [local]
            )
            if not found or not found[0].exists():
                raise InvalidValueError(f"there is no file or directory {path}")
            for one in sorted(found):
                targets.append(f"file://{one}")
                formats.setdefault(_format_in(one), path)
        if len(formats) != 1:
            shown = ", ".join(f"{path} is {name}" for name, path in formats.items())
            raise InvalidValueError(f"files that are read together must be of one format; {shown}")
        (name,) = formats
        reader = session().read.format(name).options(**_OPTIONS.get(name, {}))
        try:
            return reader.load(targets[0] if len(targets) == 1 else targets)
        except Exception as error:
            # Spark 3.5 to 4.3 tell it by a ClassNotFoundException of Java that holds this word.
            if "DATA_SOURCE_NOT_FOUND" not in str(error) and "Failed to find data source" not in str(error):
                raise
            needs = _PACKAGES.get(name, f"Spark's package for {name}")
            raise InvalidValueError(
                f"{self.paths[0]} is {name}, which this Spark cannot read: give the session {needs}"
            ) from error


def _format_in(path: Path) -> str:
    """The format of a file, or of the files of a directory."""
    if path.is_file():
        return _format_of([path.name])
    if (path / "_delta_log").is_dir():
        return "delta"
    files = (file.name for file in path.rglob("*") if file.is_file() and not file.name.startswith(("_", ".")))
    return _format_of(sorted(files))


def _format_of(names: Sequence[str]) -> str:
    """The format that the ends of names tell; parquet where they tell none."""
    for name in names:
        stem, end = os.path.splitext(name)
        if end in _COMPRESSED:
            end = os.path.splitext(stem)[1]
        if end in _FORMATS:
            return _FORMATS[end]
    return "parquet"
