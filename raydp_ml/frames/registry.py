"""The kinds of input frame, in one registry.

Adding a kind means adding a class that does what :class:`Frame` says, in a file of its own, and a line in ``_KINDS``. A
kind is recognised by the module of its type, so no library is imported that the user does not use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

if TYPE_CHECKING:
    from raydp_ml.frames.arrays import Arrays, Blocks
    from raydp_ml.frames.columns import Column, Selection
    from raydp_ml.frames.prediction import Predictor

__all__ = ["Frame", "open_frame"]


class Frame(Protocol):
    """One input frame behind the face that fit and predict need."""

    kind: ClassVar[str]
    # Whether the rows lie with Spark or Ray rather than in this process.
    distributed: ClassVar[bool]

    def columns(self) -> list[Column]:
        """Describe the columns.

        A frame that may have to compute rows for that has ``columns_now()`` too, which answers None then.
        """
        ...

    def vector_width(self, name: str) -> int:
        """The length of the vectors in a column whose schema does not tell it; reads a row."""
        ...

    def load(self, selection: Selection) -> Arrays | Blocks:
        """The selected columns: as arrays when the frame is local, otherwise as blocks in Ray's object store."""
        ...

    def with_predictions(self, predictor: Predictor, selection: Selection, output: str, name: str) -> Any:
        """Append a column of scores (``output`` is ``"prediction"`` or ``"probability"``), in this frame's own kind."""
        ...

    def pull(self, names: list[str]) -> dict[str, np.ndarray]:
        """Bring columns into this process."""
        ...


# (start of the type's module, name of the type or None for any, where the adapter is defined)
_KINDS: list[tuple[str, str | None, str]] = [
    ("pyspark.sql.", "DataFrame", "raydp_ml.frames.spark:SparkFrame"),
    ("pyspark.pandas.", "DataFrame", "raydp_ml.frames.spark:PandasOnSparkFrame"),
    ("ray.data.", None, "raydp_ml.frames.dataset:DatasetFrame"),
    ("pandas.", "DataFrame", "raydp_ml.frames.local:PandasFrame"),
    ("pyarrow.", "Table", "raydp_ml.frames.local:TableFrame"),
    ("raydp_ml.frames.fold_rows.", "FoldRows", "raydp_ml.frames.fold_rows:as_frame"),
]


def open_frame(X: Any) -> Frame | None:
    """Wrap a frame; None for anything else, which is then treated as an array.

    Examples
    --------
    >>> import pyarrow as pa
    >>> open_frame(pa.table({"a": [1.5]})).kind
    'pyarrow Table'
    >>> open_frame([[1.5]]) is None
    True
    """
    for base in type(X).__mro__:
        for module, name, home in _KINDS:
            if f"{base.__module__}.".startswith(module) and name in (None, base.__name__):
                where, _, adapter = home.partition(":")
                return getattr(import_module(where), adapter)(X)
    return None
