"""The last step of a LocalPipeline: an estimator's fitted model, or a stage that predicts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.estimators.predictor import Predictor
from raydp_ml.estimators.protocol import Fitted
from raydp_ml.frames.arrays import feature_values
from raydp_ml.frames.categories import with_codes
from raydp_ml.frames.columns import Feature
from raydp_ml.frames.layouts import Matrix, assemble, of_type
from raydp_ml.serving.columns import DenseVectors, LocalFrame, SparseVectors, arrow_of
from raydp_ml.serving.files import read_steps, write_steps
from raydp_ml.serving.stage import LocalStage

__all__ = ["LocalFinal", "LocalModel", "LocalPredictor", "Output", "read_final"]

Output = Literal["prediction", "probability"]

# Where the fitted model of each library is defined, by the name of its class, which stands in saved directories.
_FITTED: Mapping[str, str] = MappingProxyType(
    {
        "KerasFitted": "raydp_ml.estimators.tf.fitted",
        "TorchFitted": "raydp_ml.estimators.torch.fitted",
        "XGBFitted": "raydp_ml.estimators.xgb.fitted",
    }
)
# How many numbers a matrix may have that is made of sparse vectors at once (64 MiB of float32).
_DENSE_NUMBERS = 1 << 24
_WEIGHTS = "weights"


class LocalFinal(ABC):
    """What predicts, after all other steps."""

    kind: ClassVar[str]
    """The word for it in saved directories."""

    @property
    @abstractmethod
    def columns(self) -> Mapping[Output, str]:
        """The names of the columns of predictions, for each output that there is."""

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """The columns that it reads."""

    @property
    @abstractmethod
    def classes(self) -> np.ndarray | None:
        """The labels of a classifier."""

    @abstractmethod
    def arrow_type(self, output: Output) -> pa.DataType:
        """The type of the column of predictions."""

    @abstractmethod
    def predict(self, frame: LocalFrame, output: Output) -> tuple[LocalFrame, pa.Array]:
        """Predictions, and the frame without the rows that are skipped."""

    @abstractmethod
    def write(self, folder: Path) -> dict[str, Any]:
        """Write files below a folder and return the rest, as values that a saved directory holds."""

    @classmethod
    @abstractmethod
    def read(cls, folder: Path, notes: Mapping[str, Any], model: Any) -> LocalFinal:
        """Read what :meth:`write` wrote; ``model`` is the architecture, for libraries that need it."""


@dataclass(frozen=True)
class LocalModel(LocalFinal):
    """The fitted model of an estimator of this package.

    Attributes
    ----------
    predictor : Predictor
        Predicts matrices.
    features : tuple of Feature
        The columns of a matrix.
    names : mapping
        The names of the columns of predictions.
    """

    predictor: Predictor
    features: tuple[Feature, ...]
    names: Mapping[Output, str]
    kind: ClassVar[str] = "estimator"

    @property
    def columns(self) -> Mapping[Output, str]:
        return self.names

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features)

    @property
    def classes(self) -> np.ndarray | None:
        return self.predictor.classes

    def arrow_type(self, output: Output) -> pa.DataType:
        return self.predictor.arrow_type(output)

    def predict(self, frame: LocalFrame, output: Output) -> tuple[LocalFrame, pa.Array]:
        predictions, kept = [], []
        for part in self._parts(frame):
            X = self._matrix(part)
            keep = self.predictor.rows_to_keep(X)
            predictions.append(self.predictor.to_arrow(X if keep is None else X[keep], output))
            kept.append(np.ones(part.rows, bool) if keep is None else keep)
        if len(predictions) == 1:
            return frame.where(kept[0]), predictions[0]
        return frame.where(np.concatenate(kept)), pa.concat_arrays(predictions)

    def _parts(self, frame: LocalFrame) -> Iterator[LocalFrame]:
        """The frame, in pieces where sparse vectors would be a matrix that is too large."""
        frame = LocalFrame({name: frame.column(name) for name in self.inputs}, frame.positions)
        rows = max(1, _DENSE_NUMBERS // max(1, self.predictor.width))
        if frame.rows <= rows or not any(isinstance(column, SparseVectors) for column in frame.columns.values()):
            yield frame
            return
        number = np.arange(frame.rows)
        for start in range(0, frame.rows, rows):
            yield frame.where((number >= start) & (number < start + rows))

    def _matrix(self, frame: LocalFrame) -> Matrix:
        """The features in their types, nulls as NaN where the type has one."""
        return assemble(self.features, frame.rows, lambda feature: _feature(frame, feature))

    def write(self, folder: Path) -> dict[str, Any]:
        fitted, predictor = self.predictor.fitted, self.predictor
        name = type(fitted).__name__
        if _FITTED.get(name) != type(fitted).__module__:
            raise InvalidTypeError(
                f"a LocalPipeline with a fitted {type(fitted.model).__name__} cannot be saved in a directory that runs no code "
                "when it is loaded; pickle it instead (pickle.dumps, joblib.dump), and load it only where you trust its source"
            )
        (folder / _WEIGHTS).mkdir()
        return {
            "fitted": name,
            "weights": fitted.write(str(folder / _WEIGHTS)),
            "features": [feature.to_plain() for feature in self.features],
            "columns": dict(self.names),
            "task": predictor.task,
            "classes": predictor.classes,
            "label_type": None if predictor.label_type is None else str(predictor.label_type),
            "outputs": predictor.outputs,
            "nulls": predictor.nulls,
            "sparse": predictor.sparse,
        }

    @classmethod
    def read(cls, folder: Path, notes: Mapping[str, Any], model: Any) -> LocalModel:
        if notes["fitted"] not in _FITTED:
            raise InvalidValueError(
                f"the saved pipeline names the fitted model {notes['fitted']!r}, which is none of ours"
            )
        kind: type[Fitted] = getattr(import_module(_FITTED[notes["fitted"]]), notes["fitted"])
        fitted = kind.read(str(folder / _WEIGHTS), notes["weights"], model=model).for_serving()
        features = fitted.typed(tuple(map(Feature.from_plain, notes["features"])))
        predictor = Predictor(
            fitted,
            notes["task"],
            sum(feature.width for feature in features),
            notes["classes"],
            None if notes["label_type"] is None else pa.type_for_alias(notes["label_type"]),
            notes["outputs"],
            notes["nulls"],
            kind.reads_nulls,
            notes.get("sparse", False),  # directories of before have dense models
        )
        return cls(predictor, features, notes["columns"])


def _feature(frame: LocalFrame, feature: Feature) -> tuple[np.ndarray, np.ndarray | None]:
    """The values of a feature, and which rows lack one that cannot be NaN."""
    name, column = feature.name, frame.column(feature.name)
    if not isinstance(column, DenseVectors | SparseVectors):
        if feature.nominal and feature.width == 1:
            return feature_values(frame.array(name), feature)
        if feature.dtype == "int64":
            return feature_values(frame.array(name), feature)
        if not hasattr(column.type, "value_type"):
            return of_type(frame.numbers(name)[0], feature)
    vectors = frame.vectors(name).dense()
    if vectors.rows and vectors.size != feature.width:
        raise InvalidValueError(
            f"column {name!r} holds a vector of length {vectors.size} where {feature.width} is expected"
        )
    values = np.asarray(vectors.matrix) if vectors.rows else np.empty((0, feature.width))
    if vectors.present is not None:
        values = np.where(vectors.present[:, None], values, np.nan)
    return (with_codes(values, feature.nominal), None) if feature.nominal else of_type(values, feature)


@dataclass(frozen=True)
class LocalPredictor(LocalFinal):
    """A predictor of Spark ML.

    Attributes
    ----------
    stage : LocalStage
        Makes the columns of predictions.
    names : mapping
        Their names.
    labels : tuple of float
        The classes of a classifier.
    """

    stage: LocalStage
    names: Mapping[Output, str]
    labels: tuple[float, ...]
    kind: ClassVar[str] = "stage"

    @property
    def columns(self) -> Mapping[Output, str]:
        return self.names

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.stage.inputs

    @property
    def classes(self) -> np.ndarray | None:
        return np.array(self.labels) if self.labels else None

    def arrow_type(self, output: Output) -> pa.DataType:
        return pa.float64() if output == "prediction" else pa.list_(pa.float64())

    def predict(self, frame: LocalFrame, output: Output) -> tuple[LocalFrame, pa.Array]:
        predicted = self.stage.transform(frame)
        return predicted, arrow_of(predicted.column(self.names[output]))

    def write(self, folder: Path) -> dict[str, Any]:
        (folder / _WEIGHTS).mkdir()
        write_steps(folder / _WEIGHTS, [("", self.stage)])
        return {"columns": dict(self.names), "labels": list(self.labels)}

    @classmethod
    def read(cls, folder: Path, notes: Mapping[str, Any], model: Any) -> LocalPredictor:
        ((_, stage),) = read_steps(folder / _WEIGHTS)
        return cls(stage, notes["columns"], tuple(notes["labels"]))


_KINDS: Mapping[str, type[LocalFinal]] = MappingProxyType({kind.kind: kind for kind in (LocalModel, LocalPredictor)})


def read_final(folder: Path, kind: str, notes: Mapping[str, Any], model: Any) -> LocalFinal:
    """The last step that a saved directory has.

    Parameters
    ----------
    folder : Path
        The directory.
    kind : str
        ``LocalFinal.kind`` of its class.
    notes : mapping
        What its ``write`` returned.
    model : object or None
        The architecture of its model, for libraries that need it.
    """
    if kind not in _KINDS:
        raise InvalidValueError(f"there is no kind of last step {kind!r}; there are {', '.join(_KINDS)}")
    return _KINDS[kind].read(folder, notes, model)
