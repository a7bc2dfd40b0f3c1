"""From a fitted model's numbers to predictions: original labels, null rows, numpy and Arrow forms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.protocol import Fitted
from raydp_ml.estimators.tasks import CUSTOM, MULTILABEL, above_half, predicts_probabilities
from raydp_ml.frames.layouts import Matrix, infinite_rows, is_sparse, null_rows
from raydp_ml.frames.sparse import canonical

__all__ = ["RAW_OUTPUTS", "Predictor"]

# What some libraries predict besides; ``Fitted.raw`` gives it.
RAW_OUTPUTS = ("margin", "leaf", "contributions")


@dataclass
class Predictor:
    """Everything that a prediction needs, small enough to be sent to Spark's executors and Ray's workers.

    ``nulls`` is the estimator's ``null_features``; ``reads_nulls`` says whether the library reads NaN as missing; ``sparse``
    whether it was trained in the sparse layout, which all rows are brought into.
    """

    fitted: Fitted
    task: str
    width: int
    classes: Any
    label_type: pa.DataType | None
    outputs: int
    nulls: str
    reads_nulls: bool
    sparse: bool = False

    @property
    def modules(self) -> tuple[str, ...]:
        """What predicting imports, for processes that import it ahead."""
        return (type(self).__module__, *self.fitted.modules)

    def to_bytes(self) -> bytes:
        """Pickle this, with the user's classes of ``__main__`` and notebooks inside."""
        # Where models only predict, in a service say, nothing is pickled.
        import cloudpickle

        return cloudpickle.dumps(replace(self, fitted=self.fitted.for_prediction()))

    def arrow_type(self, output: str) -> pa.DataType:
        """The type of the column of predictions."""
        if output in RAW_OUTPUTS:
            return _nested_type(self._raw(self._row_of_zeros(), output))
        if output == "prediction" and self.task == MULTILABEL:
            return pa.list_(pa.int64())
        if output == "probability" or (self.task in ("regression", CUSTOM) and self.outputs > 1):
            return pa.list_(pa.float64())
        if self.task != "classification":
            return pa.float64()
        return self.label_type if self.label_type is not None else pa.array(self.classes).type

    def rows_to_keep(self, X: Matrix) -> np.ndarray | None:
        """With ``null_features="skip"``, which rows a frame keeps; None: all of them."""
        if self.nulls != "skip":
            return None
        nulls = null_rows(X)
        return None if nulls is None else ~nulls

    def values(self, X: Matrix, output: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Predictions of each row, and which rows have none: a feature is null, or the model gives NaN for each class.

        Where the second is not None, the first holds the predictions of the other rows only.
        """
        if X.shape[1] != self.width:
            raise InvalidValueError(f"X has {X.shape[1]} features, but the estimator was fitted with {self.width}")
        if self.sparse and not is_sparse(X):
            X = canonical(X)
        nulls = null_rows(X)
        infinite = infinite_rows(X)
        if infinite:
            raise InvalidValueError(
                f"{infinite} of {X.shape[0]} rows have an infinite feature, or one too large for float32, which fit refuses too"
            )
        if nulls is not None:
            if self.nulls == "error":
                raise InvalidValueError(
                    f"{int(nulls.sum())} of {X.shape[0]} rows have a null or NaN feature, or a category that training had not; "
                    'fill them, or set null_features to "skip" or "null"'
                )
            if self.reads_nulls and self.nulls == "null":
                nulls = None
            else:
                X = X[~nulls]
        if output in RAW_OUTPUTS:
            values = self._raw(X, output) if X.shape[0] else self._raw(self._row_of_zeros(), output)[:0]
            return values, nulls
        if X.shape[0]:
            values = np.asarray(self.fitted.predict(X), np.float64)
        else:
            values = np.empty((0, len(self.classes)) if self.classes is not None else (0,))
        # A network that diverged gives NaN, which is the probability of no class and of no label. A sum looks at all at once.
        if predicts_probabilities(self.task) and np.isnan(values.sum()):
            unsure = np.isnan(values).any(axis=1)
            without = np.zeros(X.shape[0], bool) if nulls is None else nulls.copy()
            without[~without] = unsure
            values, nulls = values[~unsure], without
        if output == "probability" and self.task == "classification" and values.ndim == 2 and len(values):
            # Libraries compute them as float32, whose sums differ from 1 by more than scikit-learn's metrics allow.
            values = values / values.sum(axis=1, keepdims=True)
        if output == "prediction" and self.task == "classification" and self.classes is not None:
            values = self.classes[_likeliest(values)]
        if output == "prediction" and self.task == MULTILABEL:
            values = above_half(values)
        return values, nulls

    def _raw(self, X: Matrix, output: str) -> np.ndarray:
        return self.fitted.raw(X, output).astype(np.int32 if output == "leaf" else np.float64)

    def _row_of_zeros(self) -> np.ndarray:
        return np.zeros((1, self.width), np.float32)

    def to_numpy(self, X: Matrix, output: str) -> np.ndarray:
        """Predictions as numpy; rows with a null feature get NaN, or None among labels."""
        values, nulls = self.values(X, output)
        if nulls is None:
            return values
        empty = np.full((X.shape[0], *values.shape[1:]), np.nan)
        if values.dtype.kind != "f" and output not in RAW_OUTPUTS:
            empty = np.full(empty.shape, None, object)
        empty[~nulls] = values
        return empty

    def to_arrow(self, X: Matrix, output: str) -> pa.Array:
        """Predictions as an Arrow array; rows with a null feature get null."""
        values, nulls = self.values(X, output)
        if output in RAW_OUTPUTS:
            column = _nested(values, _nested_type(values))
        elif values.ndim == 2:
            lists = (
                pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1]) if len(values) else None
            )
            kind = self.arrow_type(output)
            column = pa.array([], kind) if lists is None else lists.cast(kind)
        else:
            column = pa.array(values, type=self.arrow_type(output), from_pandas=False)
        if nulls is None:
            return column
        places = np.cumsum(~nulls) - 1
        return column.take(pa.array(places, mask=nulls))


def _likeliest(probabilities: np.ndarray) -> np.ndarray:
    """The number of the class with the largest probability in each row, the first of several; numpy takes long for rows of two."""
    if probabilities.shape[1] == 2:
        return (probabilities[:, 1] > probabilities[:, 0]).astype(np.intp)
    return probabilities.argmax(axis=1)


def _nested_type(values: np.ndarray) -> pa.DataType:
    """The type of a column with an entry for each row of an array: numbers, lists of them, or lists of lists."""
    kind = pa.from_numpy_dtype(values.dtype)
    for _ in range(values.ndim - 1):
        kind = pa.list_(kind)
    return kind


def _nested(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values, kind)
    inside = _nested(values.reshape(-1, *values.shape[2:]), kind.value_type)
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), inside)
