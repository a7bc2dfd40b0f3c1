"""A trained Keras model: how columns become its inputs and its outputs become predictions, and how it is saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.protocol import Fitted
from raydp_ml.estimators.tf.model import PackedModel, import_keras, is_function, make_model, pack_model
from raydp_ml.frames.columns import Feature
from raydp_ml.frames.layouts import Matrix, groups_of, is_sparse, places
from raydp_ml.frames.sparse import dense_pieces

__all__ = ["Inputs", "KerasFitted", "check_outputs", "plan_inputs"]

# Rows that are predicted at once: enough to keep the cores busy, few enough for wide hidden layers.
_PREDICT_ROWS = 16384
_FILE, _OPTIMIZER_FILE = "model.keras", "optimizer.npz"


# -- inputs and outputs of a model ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class InputPart:
    """The columns of a feature matrix that one input of a model takes, and the form it takes them in.

    ``group`` is the number of the matrix, where features have several types.
    """

    start: int
    stop: int
    shape: tuple[int, ...]
    dtype: str = "float32"
    group: int = 0


@dataclass(frozen=True)
class Inputs:
    """How the features become the input of a model: one array, a list of them, or a dict by name."""

    parts: tuple[InputPart, ...]
    names: tuple[str, ...] | None = None

    @property
    def width(self) -> int:
        """How many numbers a row has."""
        return sum(
            max(part.stop for part in self.parts if part.group == group)
            for group in {part.group for part in self.parts}
        )

    def of(self, X: Any) -> Any:
        """Cut features into inputs.

        Examples
        --------
        >>> X = np.array([[1.0, 2.0, 3.0]], np.float32)
        >>> Inputs((InputPart(0, 1, ()), InputPart(1, 3, (2,))), ("a", "v")).of(X)
        {'a': array([1.], dtype=float32), 'v': array([[2., 3.]], dtype=float32)}
        """
        groups = groups_of(X.toarray() if is_sparse(X) else X)

        def cut(part: InputPart) -> np.ndarray:
            columns = groups[part.group][:, part.start : part.stop]
            return np.ascontiguousarray(columns.reshape(-1, *part.shape), part.dtype)

        return self.each(cut)

    def each(self, make: Callable[[InputPart], Any]) -> Any:
        """What the model takes, with something made for each input."""
        made = [make(part) for part in self.parts]
        if self.names is not None:
            return dict(zip(self.names, made, strict=True))
        return made[0] if len(made) == 1 else made


@dataclass(frozen=True)
class DenseBatches:
    """Sparse rows that become inputs batch by batch."""

    rows: Any
    inputs: Inputs

    def take(self, indices: np.ndarray) -> list[np.ndarray]:
        """The inputs of some rows, one after another."""
        made = self.inputs.of(self.rows[indices])
        return list(made.values()) if isinstance(made, dict) else made if isinstance(made, list) else [made]


# What features cross as where an input of the model has a type that float32 does not hold.
_CROSS_AS = {"float64": "float64"} | dict.fromkeys(
    ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"), "int64"
)


def typed(model: Any, features: tuple[Feature, ...], merge: bool) -> tuple[Feature, ...]:
    """Features in the types in which they reach the inputs of a model.

    Parameters
    ----------
    model, features, merge
        As for :func:`plan_inputs`.
    """
    tensors = getattr(model, "inputs", None)
    if not tensors:
        return features
    if merge:
        dtype = _CROSS_AS.get(tensors[0].dtype, "float32")
        return tuple(replace(feature, dtype=dtype) for feature in features)
    tensor_of, _ = _tensors_by_column(model, [feature.name for feature in features])
    return tuple(
        replace(feature, dtype=_CROSS_AS.get(tensor_of[feature.name].dtype, "float32")) for feature in features
    )


def plan_inputs(model: Any, features: tuple[Feature, ...], merge: bool) -> Inputs:
    """Decide what each input of a model is given, and check that it fits.

    Parameters
    ----------
    model : keras.Model or None
        The model; its inputs are known when it is functional or built.
    features : tuple of Feature
        The feature columns.
    merge : bool
        Whether all features together are the one input, or each is an input of its own.
    """
    width = sum(feature.width for feature in features)
    where = places(features)
    tensors = getattr(model, "inputs", None)
    if merge:
        if tensors is not None and len(tensors) != 1:
            raise InvalidValueError(
                f"the model has {len(tensors)} inputs, but merge_feature_columns=True gives it one matrix of all features; "
                "set merge_feature_columns=False to give each feature column to an input of its own"
            )
        shape, dtype = _form(tensors[0], width, "the features") if tensors else ((width,), "float32")
        return Inputs((InputPart(0, width, shape, dtype),))
    if tensors is None:
        parts = tuple(InputPart(cut.start, cut.stop, (cut.stop - cut.start,)) for _, cut in where.values())
        return Inputs(parts, tuple(where))
    tensor_of, by_name = _tensors_by_column(model, [feature.name for feature in features])
    parts = tuple(
        InputPart(
            where[name][1].start,
            where[name][1].stop,
            *_form(tensor, where[name][1].stop - where[name][1].start, f"column {name!r}"),
            where[name][0],
        )
        for name, tensor in tensor_of.items()
    )
    if len(parts) == 1 and not isinstance(model.input, Mapping):
        by_name = False
    return Inputs(parts, tuple(tensor_of) if by_name else None)


def _tensors_by_column(model: Any, columns: list[str]) -> tuple[dict[str, Any], bool]:
    """Which input takes which column, in the order of the inputs, and whether the model takes them by name."""
    structure, tensors = model.input, model.inputs
    names = list(structure) if isinstance(structure, Mapping) else [tensor.name for tensor in tensors]
    if isinstance(structure, Mapping):
        tensors = [structure[name] for name in names]
    if set(names) == set(columns):
        return dict(zip(names, tensors, strict=True)), True
    if len(names) == len(columns) and not isinstance(structure, Mapping):
        return dict(zip(columns, tensors, strict=True)), False
    raise InvalidValueError(
        f"the model has the inputs {names}, but the feature columns are {columns}; name the inputs after the columns, "
        "or make as many inputs as there are columns"
    )


def _form(tensor: Any, width: int, what: str) -> tuple[tuple[int, ...], str]:
    """Shape of a row and dtype that an input takes."""
    shape = tuple(tensor.shape[1:])
    if None in shape:
        return (width,), tensor.dtype
    if int(np.prod(shape)) != width:
        raise InvalidValueError(
            f"the model's input {tensor.name!r} takes rows of shape {shape}, {int(np.prod(shape))} numbers, but {what} has "
            f"{width}; make the Input layer of the model that wide, or choose other feature_columns"
        )
    return shape, tensor.dtype


def check_outputs(shape: tuple[int, ...], kind: str | None, task: str, classes: int, outputs: int) -> None:
    """Check that what a model gives fits the labels; Keras would spread a mismatch over the rows silently.

    Parameters
    ----------
    shape : tuple
        Shape of the model's output for two rows.
    kind : str or None
        What `loss_kind` says of the loss.
    task : str
        Classification or regression.
    classes, outputs : int
        Number of classes; number of label columns.
    """
    units = 1 if len(shape) == 1 else shape[-1]
    if len(shape) > 2:
        raise InvalidValueError(
            f"the model gives an output of shape {shape[1:]} per row; end it with a layer like Dense"
        )
    if task == "regression":
        if units != outputs:
            raise InvalidValueError(
                f"the model gives {units} values per row for {outputs} label column(s); change its last layer"
            )
    elif kind == "binary":
        if classes != 2:
            raise InvalidValueError(
                f"a binary loss is for 2 classes and the label has {classes}; use sparse_categorical_crossentropy and "
                f"{classes} outputs"
            )
        if units != 1:
            raise InvalidValueError(
                f"a binary loss needs a model with 1 output, this one gives {units}; change its last layer"
            )
    elif units == 1 and classes != 2:
        raise InvalidValueError(
            f"the model gives 1 value per row for {classes} classes; give its last layer {classes} units"
        )
    elif units < classes and not (units == 1 and kind is None):
        raise InvalidValueError(
            f"the model gives {units} values per row for {classes} classes; give its last layer {classes} units"
        )


# -- the fitted model ----------------------------------------------------------------------------------------------


@dataclass
class KerasFitted(Fitted):
    """A trained Keras model and how its outputs are read."""

    packed: PackedModel
    inputs: Inputs
    task: str
    n_outputs: int
    classes: int = 0
    logits: bool = False
    carry: dict[str, Any] | None = None
    _opened: Any = field(default=None, repr=False, compare=False)
    _run: Any = field(default=None, repr=False, compare=False)

    modules: ClassVar[tuple[str, ...]] = ("raydp_ml.estimators.tf.loop", __name__)
    reads_nulls: ClassVar[bool] = False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None, "_run": None}

    @property
    def model(self) -> Any:
        """The Keras model."""
        if self._opened is None:
            self._opened = self.packed.open()
        return self._opened

    def for_prediction(self) -> KerasFitted:
        """This without what only training needs, to be sent to Spark and Ray."""
        return replace(self, carry=None)

    def typed(self, features: tuple[Feature, ...]) -> tuple[Feature, ...]:
        """The features in the types that the inputs have."""
        types = [_CROSS_AS.get(part.dtype, "float32") for part in self.inputs.parts]
        if len(set(types)) == 1:
            return tuple(replace(feature, dtype=types[0]) for feature in features)
        names = self.inputs.names or tuple(feature.name for feature in features)
        by_name = dict(zip(names, types, strict=True))
        return tuple(replace(feature, dtype=by_name[feature.name]) for feature in features)

    def predict(self, X: Matrix) -> np.ndarray:
        """Predict rows: class probabilities, or values."""
        if self._run is None:
            self._run = self._make_run()
        pieces = dense_pieces(X.shape[0], X.shape[1] if is_sparse(X) else 1, _PREDICT_ROWS)
        chunks = [np.asarray(self._run(self.inputs.of(X[piece]))) for piece in pieces]
        outputs = np.concatenate(chunks).astype(np.float64)
        if self.task != "classification":
            return outputs[:, 0] if outputs.ndim == 2 and outputs.shape[1] == 1 else outputs
        return self._probabilities(outputs)

    def _make_run(self) -> Any:
        model = self.model
        import tensorflow as tf  # after the model, whose opening imports it quietly

        specs = self.inputs.each(lambda part: tf.TensorSpec((None, *part.shape), part.dtype))

        # One trace for any number of rows; `model.predict` has a fixed cost of some 50 ms per call.
        @tf.function(input_signature=[specs], autograph=False)
        def run(X: Any) -> Any:
            return model(X, training=False)

        return run

    def _probabilities(self, outputs: np.ndarray) -> np.ndarray:
        from scipy import special

        if outputs.ndim == 1 or outputs.shape[1] == 1:
            second = outputs.reshape(-1)
            second = special.expit(second) if self.logits else second
            return np.column_stack([1 - second, second])
        outputs = special.softmax(outputs, axis=1) if self.logits else outputs
        outputs = outputs[:, : self.classes]  # a model may have room for classes that the data does not show
        return outputs / np.maximum(outputs.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)

    def write(self, directory: str) -> dict[str, Any]:
        """Write the model as ``.keras``, and the state of the optimizer."""
        Path(directory, _FILE).write_bytes(self.packed.content)
        notes: dict[str, Any] = {
            "inputs": [asdict(part) for part in self.inputs.parts],
            "input_names": self.inputs.names,
            **{"task": self.task, "n_outputs": self.n_outputs, "classes": self.classes, "logits": self.logits},
            "optimizer": None,
        }
        if self.carry is not None:
            np.savez(Path(directory, _OPTIMIZER_FILE), *self.carry["state"])
            notes["optimizer"] = self.carry["optimizer"]
        return notes

    @classmethod
    def read(cls, directory: str, notes: dict[str, Any], model: Any = None) -> KerasFitted:
        """Read what :meth:`write` wrote.

        The ``.keras`` file is read by Keras in safe mode when it names nothing but Keras's own classes or trusted ones;
        otherwise only its weights are, into the architecture of ``model``.
        """
        parts = tuple(InputPart(**{**part, "shape": tuple(part["shape"])}) for part in notes["inputs"])
        names = notes["input_names"]
        inputs = Inputs(parts, None if names is None else tuple(names))
        opened = _read_model(Path(directory, _FILE), model, inputs, notes["n_outputs"])
        carry = None
        if notes["optimizer"] is not None:
            with np.load(Path(directory, _OPTIMIZER_FILE), allow_pickle=False) as arrays:
                carry = {"optimizer": notes["optimizer"], "state": [arrays[name] for name in arrays.files]}
        about = {name: notes[name] for name in ("task", "n_outputs", "classes", "logits")}
        return cls(pack_model(opened), inputs, carry=carry, _opened=opened, **about)


def _read_model(path: Path, model: Any, inputs: Inputs, n_outputs: int) -> Any:
    from raydp_ml.persistence.codecs.keras import check_archive
    from raydp_ml.persistence.directory import current_trust

    keras = import_keras()
    try:
        own = check_archive(path, current_trust())
        return keras.saving.load_model(path, custom_objects=own, compile=False, safe_mode=True)
    except (ValueError, TypeError) as error:  # not trusted, or defined in a __main__ that is gone
        if model is None:
            raise InvalidValueError(
                f"{path.name} cannot be loaded by itself ({error}); give its architecture with load(path, model=...)"
            ) from error
        made = make_model(model if is_function(model) else pack_model(model), inputs.width, n_outputs)
        if not made.built:
            made(inputs.each(lambda part: np.zeros((2, *part.shape), part.dtype)))
        made.load_weights(path)
        return made
