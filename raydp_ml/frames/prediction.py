"""What a frame asks of a fitted estimator to add a column of predictions."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pyarrow as pa

from raydp_ml.frames.layouts import Matrix

__all__ = ["Predictor"]


class Predictor(Protocol):
    """Predicts matrices of features; small enough to be sent to Spark's executors and Ray's workers.

    Throughout, ``output`` is ``"prediction"``, ``"probability"``, or another one that the fitted model has, such as
    ``"margin"``.
    """

    # How many numbers a row of features has.
    width: int
    # What a null feature means: "error", "skip" or "null".
    nulls: str

    @property
    def modules(self) -> tuple[str, ...]:
        """What predicting imports, for processes that import it ahead."""
        ...

    def to_bytes(self) -> bytes:
        """The pickled predictor, with the user's classes of ``__main__`` and notebooks inside."""
        ...

    def arrow_type(self, output: str) -> pa.DataType:
        """The type of the column of predictions."""
        ...

    def rows_to_keep(self, X: Matrix) -> np.ndarray | None:
        """Which rows a frame keeps where rows with a null feature are left out; None: all of them."""
        ...

    def to_numpy(self, X: Matrix, output: str) -> np.ndarray:
        """Predictions of rows as numpy."""
        ...

    def to_arrow(self, X: Matrix, output: str) -> pa.Array:
        """Predictions of rows as an Arrow array."""
        ...
