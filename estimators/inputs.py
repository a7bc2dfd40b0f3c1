"""What ``fit`` was given: opened, and its columns decided."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_array, column_or_1d

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.estimators.checks import own_errors
from raydp_ml.estimators.learnt import Learnt
from raydp_ml.frames.arrays import Arrays, Blocks, feature_values
from raydp_ml.frames.categories import Nominal, with_codes
from raydp_ml.frames.columns import Feature, Selection, names_of, require_column, resolve
from raydp_ml.frames.frame import Frame
from raydp_ml.frames.layouts import Matrix, assemble, is_sparse
from raydp_ml.frames.pandas_frame import PandasFrame
from raydp_ml.frames.path import PathFrame
from raydp_ml.frames.registry import open_frame
from raydp_ml.frames.sparse import WIDE, canonical, check_fits

__all__ = [
    "ColumnSpec",
    "Opened",
    "Typed",
    "Validate",
    "array_rows",
    "by_column",
    "check_same_features",
    "open_training",
    "open_validation",
    "shape_of",
]

# scikit-learn's validation of arrays for one estimator; it remembers number and names of the features there, and gives X, y
# and the names.
Validate = Callable[..., tuple[np.ndarray, Any, Any]]
# The features in the types in which the model takes them: ``Backend.typed``.
Typed = Callable[[tuple[Feature, ...]], tuple[Feature, ...]]


@dataclass(frozen=True)
class ColumnSpec:
    """What an estimator's parameters say about the columns of its input.

    ``extra`` are further columns that training reads, ``{"qid": name}`` for example, and ``further_outputs`` names of columns
    that other outputs than predictions and probabilities are appended as. ``categorical`` says whether features may be categories.
    """

    feature_columns: Any = None
    label_column: Any = None
    weight_column: Any = None
    prediction_column: str = "prediction"
    probability_column: str = "probability"
    null_features: str = "error"
    sparse: Any = "auto"
    extra: Mapping[str, Any] = field(default_factory=dict)
    further_outputs: tuple[str, ...] = ()
    categorical: bool = False

    @property
    def label(self) -> tuple[str, ...]:
        """Names of the label columns."""
        return names_of(self.label_column, "label_column")

    @property
    def never(self) -> tuple[str, ...]:
        """Columns that are no features: predictions of before."""
        return (self.prediction_column, self.probability_column, *self.further_outputs)

    def in_layout(self, selection: Selection, frame: Frame, typed: Typed, sparse: bool | None = None) -> Selection:
        """The features in the layout and the types in which they are read.

        Parameters
        ----------
        selection : Selection
            The columns.
        frame : Frame
            What has them.
        typed : callable
            See ``Backend.typed``.
        sparse : bool, optional
            The layout of a fit before, which training goes on with. None: the parameter ``sparse``, whose ``"auto"`` looks at what
            the columns are, and at no row.

        Raises
        ------
        InvalidValueError
            When a dense matrix would not fit into memory.
        """
        if sparse is None:
            sparse = self.sparse
        if sparse == "auto":
            may_be = {column.name for column in frame.columns() if column.sparse}
            sparse = any(feature.name in may_be and feature.width > WIDE for feature in selection.features)
        features = _typed(typed, selection.features, bool(sparse))
        if not sparse and selection.width > WIDE:
            check_fits(frame.count(), selection.width)
        return replace(selection, features=features, sparse=bool(sparse))

    @property
    def finite(self) -> bool | str:
        """What scikit-learn's validation calls ``ensure_all_finite``."""
        return True if self.null_features == "error" else "allow-nan"

    def roles(self, validation: str | None = None) -> dict[str, str]:
        """Names of the columns with another role than feature or label.

        Parameters
        ----------
        validation : str, optional
            The column that says which rows to validate on.
        """
        roles = {"weight": self.weight_column, "validation": validation, **self.extra}
        for role, name in roles.items():
            if name is not None and not isinstance(name, str):
                raise InvalidTypeError(f"{role}_column={name!r} must be a column name")
        return {role: name for role, name in roles.items() if name is not None}


@dataclass
class Opened:
    """Training input: its rows, and what the columns are called.

    ``roles`` and ``frame`` are None for arrays, and ``named`` says whether the features have names of their own.
    """

    data: Arrays | Blocks
    features: tuple[Feature, ...]
    label: tuple[str, ...] = ()
    roles: dict[str, str] | None = None
    named: bool = True
    sparse: bool = False
    frame: Frame | None = None

    @property
    def label_name(self) -> str:
        """How messages call the label."""
        return ", ".join(self.label) or "y"

    @property
    def outputs(self) -> int:
        """How many labels a row has."""
        label = self.data.label if isinstance(self.data, Arrays) else None
        return label.shape[1] if label is not None and label.ndim == 2 else max(1, len(self.label))


def open_training(
    spec: ColumnSpec,
    validate: Validate,
    X: Any,
    y: Any,
    sample_weight: Any,
    task: str,
    validation: str | None,
    *,
    typed: Typed,
    reset: bool,
    vector_column: str | None = None,
    previous: Learnt | None = None,
) -> Opened:
    """Open what fit was given, and decide on the columns and their layout, which are those of a fit before, ``previous``."""
    sparse = None if previous is None else previous.sparse
    roles, names = spec.roles(validation), spec.label
    frame = open_frame(X)
    if isinstance(frame, PathFrame):
        frame.refuse()
    if isinstance(frame, PandasFrame) and y is not None:
        names = tuple(name for name in names if name in X.columns)
        by_name = spec.feature_columns is not None or names or roles or vector_column
        frame = frame if by_name else None
    if frame is None:
        if roles or spec.feature_columns is not None:
            raise InvalidValueError(
                f"{[*roles.values()] or spec.feature_columns} name columns, but X is a {type(X).__name__} without named "
                "columns; give sample_weight and (X, y) arrays instead"
            )
        if sparse is None:
            sparse = is_sparse(X) if spec.sparse == "auto" else spec.sparse
        if is_sparse(X) and not sparse:
            check_fits(*X.shape)  # before anything is made that has something for each feature
        features = _going_on(_typed(typed, _features_of_array(X, spec.categorical, sparse), sparse), previous)
        arrays, columns = _validated_arrays(spec, validate, X, y, sample_weight, task, features, sparse, reset)
        return Opened(arrays, features, named=columns is not None, sparse=sparse)
    given_y = y is not None
    if given_y and not isinstance(frame, PandasFrame):
        raise InvalidTypeError(f"y was given with a {frame.kind}; its label is a column: name it with label_column")
    if sample_weight is not None and not isinstance(frame, PandasFrame):
        raise InvalidTypeError(
            f"sample_weight was given with a {frame.kind}; its weights are a column: name weight_column"
        )
    if not names and not given_y:
        raise InvalidValueError(f"label_column is not given: name the column of the {frame.kind} that holds the label")
    if len(names) > 1 and task in ("classification", "ranking"):
        raise InvalidValueError(
            f"label_column={list(names)}: several labels are possible for regression, and for a TorchEstimator whose loss takes "
            "labels of 0 and 1 each (BCEWithLogitsLoss, BCELoss)"
        )
    selection = resolve(
        frame,
        feature_columns=spec.feature_columns,
        label=names,
        roles=roles,
        never=spec.never,
        vector_column=vector_column,
        categorical=spec.categorical,
    )
    if task != "classification":
        _require_numeric_label(frame, names)
    selection = spec.in_layout(selection, frame, typed, sparse)
    selection = replace(selection, features=_going_on(selection.features, previous))
    read = replace(selection, label=() if given_y else names)
    data = frame.load(read)
    if isinstance(data, Arrays):
        if given_y:
            data.label = _labels(y, task, len(data))
        if sample_weight is not None:
            data.weight = _weights(sample_weight, data)
        if not len(data):
            raise InvalidValueError("the training data is empty: it has no rows")
    elif not data.refs:
        raise InvalidValueError("the training data is empty: it has no rows")
    return Opened(data, selection.features, names, dict(selection.roles), sparse=selection.sparse, frame=frame)


def _typed(typed: Typed, features: tuple[Feature, ...], sparse: bool) -> tuple[Feature, ...]:
    found = typed(features)
    others = [feature.name for feature in found if feature.dtype != "float32"]
    if sparse and others:
        raise InvalidValueError(
            f"the model takes {', '.join(others[:5])} in a type of its own, and the sparse layout holds float32 only; "
            "set sparse=False"
        )
    nominal = [feature.name for feature in found if feature.nominal]
    if sparse and nominal:
        raise InvalidValueError(
            f"{', '.join(nominal[:5])} hold categories, whose code 0 would be missing in the sparse layout; set sparse=False, "
            "or enable_categorical=False to take the codes as numbers"
        )
    return found


def _going_on(features: tuple[Feature, ...], previous: Learnt | None) -> tuple[Feature, ...]:
    """The features with the categories of a fit before, whose codes the model knows."""
    if previous is None or len(previous.features) != len(features):
        return features
    new = [
        now.name for now, before in zip(features, previous.features, strict=True) if now.nominal and not before.nominal
    ]
    if new:
        raise InvalidValueError(f"training cannot go on with categories in {new}: it began with numbers there")
    return tuple(replace(now, nominal=before.nominal) for now, before in zip(features, previous.features, strict=True))


def check_same_features(previous: Learnt, opened: Opened) -> None:
    """Raise when training goes on with other features than before."""
    before, now = previous.features, opened.features
    if opened.roles is None:  # the columns of an array
        same = sum(feature.width for feature in now) == previous.width
    else:
        same = [feature.width for feature in now] == [feature.width for feature in before] and not (
            previous.by_name and [feature.name for feature in now] != [feature.name for feature in before]
        )
    if not same:
        raise InvalidValueError(
            f"training cannot go on with the features {[feature.name for feature in now]}: it began with "
            f"{[feature.name for feature in before]}"
        )


def _require_numeric_label(frame: Frame, names: tuple[str, ...]) -> None:
    for column in frame.columns():
        if column.name in names and column.kind not in ("number", "boolean"):
            raise InvalidTypeError(
                f"the label column {column.name!r} has the type {column.type}, which is not numeric; for labels that are names "
                'give task="classification" or a loss for it'
            )


def _features_of_array(X: Any, categorical: bool, sparse: bool) -> tuple[Feature, ...]:
    """A feature for each column of an array, by its name where it has one; none for what has no columns.

    The columns of wide sparse rows are the numbers of one feature, as those of a vector: objects for each would take more memory
    than the rows.
    """
    frame = open_frame(X)
    if isinstance(frame, PandasFrame):
        nominal = frame.nominal_by_place() if categorical else [()] * X.shape[1]
        named = all(isinstance(name, str) for name in X.columns)
        names = list(X.columns) if named else [str(place) for place in range(X.shape[1])]
        whole = [named and dtype.kind in "iub" for dtype in X.dtypes]
        return tuple(
            Feature(name, nominal=each, whole=integers)
            for name, each, integers in zip(names, nominal, whole, strict=True)
        )
    shape = shape_of(X)
    width = shape[1] if len(shape) == 2 else 0
    return (Feature("X", width),) if sparse and width > WIDE else tuple(Feature(str(place)) for place in range(width))


def shape_of(X: Any) -> tuple[int, ...]:
    """The shape of an array-like; () for None."""
    with own_errors():
        # np.shape would ask objects that follow __array_function__, and sparse matrices are no arrays for numpy.
        return tuple(X.shape) if hasattr(X, "shape") else np.asarray(X).shape


def array_rows(X: Any, features: tuple[Feature, ...], check: Callable[..., Any], sparse: bool = False) -> Matrix:
    """The columns of an array in the types of features.

    Parameters
    ----------
    X : array-like of shape (rows, columns)
        Numbers; a pandas frame is read by position.
    features : tuple of Feature
        What the columns are, in their order.
    check : callable
        scikit-learn's validation of X, given the dtype and order that it is to make.
    sparse : bool, default=False
        Whether to read X in the sparse layout.
    """
    if sparse:
        return canonical(check(X, dtype=np.float32, accept_sparse="csr"))
    if is_sparse(X):
        check = _made_dense(check)
    if any(feature.nominal for feature in features):
        return _codes_of_array(X, by_column(features), check)
    types = {feature.dtype for feature in features} or {"float32"}
    if types in ({"float32"}, {"float64"}):
        return check(X, dtype=np.dtype(types.pop()), order="C")
    features = by_column(features)
    if len(set(features)) < len(features):
        raise InvalidValueError("columns that the model takes in types of their own need distinct names")
    checked = check(X, dtype="numeric", order=None)
    if checked.shape[1] != len(features):
        return checked
    in_frame = isinstance(open_frame(X), PandasFrame)
    # A frame's columns each have a type of their own, which one array of all of them may not hold.
    columns = {
        feature: pa.array(X.iloc[:, place]) if in_frame else pa.array(checked[:, place], from_pandas=True)
        for place, feature in enumerate(features)
    }
    return assemble(features, len(checked), lambda feature: feature_values(columns[feature], feature))


def _made_dense(check: Callable[..., Any]) -> Callable[..., Any]:
    """A validation that gives sparse rows as a dense array."""

    def dense(X: Any, **about: Any) -> np.ndarray:
        return check(X, accept_sparse="csr", **about).toarray()

    return dense


def _codes_of_array(X: Any, features: tuple[Feature, ...], check: Callable[..., Any]) -> Matrix:
    """The columns of an array, of which some hold categories: of a pandas frame any cells, otherwise numbers."""
    frame = open_frame(X)
    if isinstance(frame, PandasFrame):
        codes = frame.codes([feature.nominal for feature in features])
        # Which rows lack a category is said where those are that lack another feature.
        checked = np.array(check(frame.with_numbers(codes), dtype=np.float32, order="C"))
        for place, column in codes.items():
            checked[:, place] = column
        return checked
    # The numbers as they are, because categories that are numbers are compared with them.
    checked = check(X, dtype="numeric", order=None)
    nominal = [Nominal(feature.nominal[0].values, place) for place, feature in enumerate(features) if feature.nominal]
    return np.ascontiguousarray(with_codes(checked, nominal)) if checked.shape[1] == len(features) else checked


def _validated_arrays(
    spec: ColumnSpec,
    validate: Validate,
    X: Any,
    y: Any,
    sample_weight: Any,
    task: str,
    features: tuple[Feature, ...],
    sparse: bool,
    reset: bool,
) -> tuple[Arrays, Any]:
    labels: Any = None
    names: Any = None

    def check(X: Any, **about: Any) -> np.ndarray:
        nonlocal labels, names
        checked, labels, names = validate(
            X,
            y,
            reset=reset,
            **about,
            ensure_all_finite=spec.finite,
            multi_output=True,
            y_numeric=task != "classification",
        )
        return checked

    with own_errors():
        matrix = array_rows(X, features, check, sparse)
    arrays = Arrays(matrix, _labels(labels, task, matrix.shape[0]))
    if sample_weight is not None:
        arrays.weight = _weights(sample_weight, arrays)
    return arrays, names


def _labels(y: Any, task: str, rows: int) -> np.ndarray:
    label = np.asarray(y)
    with own_errors():
        if label.ndim == 2 and (label.shape[1] == 1 or task == "classification"):
            label = column_or_1d(label, warn=True)
        if len(label) != rows:
            raise InvalidValueError(f"y has {len(label)} labels, but X has {rows} rows")
        if task == "classification":
            check_classification_targets(label)
    return label


def _weights(sample_weight: Any, arrays: Arrays) -> np.ndarray:
    with own_errors():
        # Of the rows it reads how many there are only.
        weight = _check_sample_weight(sample_weight, np.empty((len(arrays), 1)), dtype=np.float32)
    return weight if arrays.weight is None else weight * arrays.weight


def open_validation(spec: ColumnSpec, validation: Any, training: Opened, task: str) -> Arrays | Blocks:
    """Open a validation frame, or the arrays (X, y) or (X, y, weight)."""
    if isinstance(validation, tuple | list):
        if len(validation) not in (2, 3):
            raise InvalidValueError(
                f"validation has {len(validation)} parts; arrays are given as (X, y) or (X, y, weight)"
            )
        X, y, weight = (*validation, None)[:3]
        arrays = _validation_arrays(spec, X, training)
        arrays.label = _labels(y, task, len(arrays))
        if weight is not None:
            arrays.weight = _weights(weight, arrays)
        return arrays
    frame = open_frame(validation)
    if frame is None:
        raise InvalidTypeError(
            f"validation is a {type(validation).__name__}; give a fraction, a frame, (X, y) or the name of a boolean column"
        )
    if not training.label:
        raise InvalidValueError(
            "validation is a frame, but the training label is y; give validation=(X, y) or label_column"
        )
    roles = {role: name for role, name in (training.roles or {}).items() if role != "validation"}
    columns = {column.name: column for column in frame.columns()}
    for name in (*training.label, *roles.values(), *(feature.name for feature in training.features)):
        require_column(columns, name, "validation", frame.kind)
    data = frame.load(Selection(training.features, training.label, roles, training.sparse))
    if isinstance(data, Blocks) and not data.refs:
        raise InvalidValueError("validation is empty: it has no rows")
    return data


def _validation_arrays(spec: ColumnSpec, X: Any, training: Opened) -> Arrays:
    width = sum(feature.width for feature in training.features)
    if training.roles is not None and isinstance(open_frame(X), PandasFrame):
        return PandasFrame(X).load(Selection(training.features, sparse=training.sparse))
    if training.roles is None and training.named and isinstance(open_frame(X), PandasFrame):
        names = [feature.name for feature in training.features]
        missing = [name for name in names if name not in X.columns]
        if missing:
            raise InvalidValueError(f"validation has no column {missing}; the training data has {names}")
        X = X[names]  # by name, wherever there are names
    with own_errors():
        shape = shape_of(X)
        if len(shape) == 2 and shape[1] != width:
            raise InvalidValueError(f"validation has {shape[1]} features, but the training data has {width}")
        finite = partial(check_array, ensure_all_finite=spec.finite, input_name="validation X")
        return Arrays(array_rows(X, training.features, finite, training.sparse))


def by_column(features: Iterable[Feature]) -> tuple[Feature, ...]:
    """A feature of one number for each column of the matrix of all."""
    return tuple(
        column for feature in features for column in ((feature,) if feature.width == 1 else _numbers_of(feature))
    )


def _numbers_of(feature: Feature) -> Iterator[Feature]:
    nominal = {each.place: (replace(each, place=0),) for each in feature.nominal}
    for place in range(feature.width):
        yield Feature(f"{feature.name}_{place}", 1, feature.dtype, nominal=nominal.get(place, ()))
