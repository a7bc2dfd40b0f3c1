"""What ``fit`` and ``predict`` were given: checked, opened, and its columns decided."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_array, column_or_1d, validate_data

from raydp_ml.errors import InvalidTypeError, InvalidValueError, RaydpMLError
from raydp_ml.estimators.survey import Survey
from raydp_ml.frames.arrays import Arrays, Blocks
from raydp_ml.frames.columns import Feature, Selection, names_of, require_column, resolve
from raydp_ml.frames.frame import Frame
from raydp_ml.frames.pandas_frame import PandasFrame
from raydp_ml.frames.path import PathFrame
from raydp_ml.frames.registry import open_frame
from raydp_ml.frames.spark import SparkFrame

if TYPE_CHECKING:
    from raydp_ml.estimators.base import EstimatorBase

__all__ = [
    "UNSET",
    "Opened",
    "check_matrix",
    "check_parameters",
    "check_same_features",
    "check_survey",
    "cross_for_training",
    "is_plain_pandas",
    "known_features",
    "labels_and_predictions",
    "open_training",
    "open_validation",
    "validation_mask",
]

UNSET: Any = object()


@dataclass
class Opened:
    """Training input: its rows, and what the columns are called."""

    data: Arrays | Blocks
    features: tuple[Feature, ...]
    label: tuple[str, ...] = ()
    roles: dict[str, str] | None = None
    arrow_label: pa.DataType | None = None

    @property
    def label_name(self) -> str:
        """How messages call the label."""
        return ", ".join(self.label) or "y"

    @property
    def outputs(self) -> int:
        """How many labels a row has."""
        label = self.data.label if isinstance(self.data, Arrays) else None
        return label.shape[1] if label is not None and label.ndim == 2 else max(1, len(self.label))

    def label_type(self, classes: np.ndarray | None) -> pa.DataType | None:
        """The Arrow type that predicted labels get."""
        return None if classes is None else pa.array(classes).type

    def set_attributes(self, estimator: EstimatorBase) -> None:
        """Set the names and the number of features; for arrays scikit-learn's validation has done it."""
        estimator._by_name = self.roles is not None
        if self.roles is not None:
            estimator.feature_names_in_ = np.array([feature.name for feature in self.features], dtype=object)
            estimator.n_features_in_ = sum(feature.width for feature in self.features)


# -- checks --------------------------------------------------------------------------------------------------------


def check_parameters(estimator: EstimatorBase) -> None:
    """Check the parameters that all estimators have."""
    if estimator.null_features not in ("error", "skip", "null"):
        raise InvalidValueError(f"null_features={estimator.null_features!r} must be 'error', 'skip' or 'null'")
    for name, lowest in (
        ("num_workers", 0),
        ("max_retries", 0),
        ("batch_size", 1),
        ("num_epochs", 1),
        ("num_boost_round", 1),
    ):
        value = getattr(estimator, name, None)
        if value is None and name in ("num_workers",):
            continue
        if not hasattr(estimator, name):
            continue
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise InvalidTypeError(f"{name}={value!r} must be a whole number")
        if value < lowest:
            raise InvalidValueError(f"{name}={value!r} must be at least {lowest}")
    validation = estimator.validation
    if isinstance(validation, float) and not 0 < validation < 1:
        raise InvalidValueError(f"validation={validation!r}: a fraction must lie between 0 and 1")
    if isinstance(validation, bool | int):
        raise InvalidTypeError(f"validation={validation!r} must be a fraction, a frame, (X, y), a column name or None")


def check_survey(known: Survey, check_nulls: bool, what: str, label: str) -> None:
    """Raise for rows that no library can be given."""
    usable = known.rows if known.usable is None else int(known.usable.sum())
    if not known.rows:
        raise InvalidValueError(f"{what} is empty: it has no rows")
    if known.label_nulls:
        raise InvalidValueError(
            f"the label {label!r} is null or NaN in {known.label_nulls} of {known.rows} rows of {what}; drop or fill them"
        )
    if known.null_rows and check_nulls:
        raise InvalidValueError(
            f"{known.null_rows} of {known.rows} rows of {what} have a null or NaN feature; fill them, or set null_features to "
            '"skip" or "null"'
        )
    if known.infinite_rows:
        raise InvalidValueError(
            f"{known.infinite_rows} of {known.rows} rows of {what} have an infinite feature, or one too large for float32"
        )
    if not usable:
        raise InvalidValueError(f"{what} is empty: every one of its {known.rows} rows has a null feature")
    if known.bad_weights:
        raise InvalidValueError(f"{known.bad_weights} rows of {what} have a weight that is negative, NaN or infinite")


def validation_mask(known: Survey, fraction: float, seed: int | None) -> np.ndarray:
    """Choose the rows to validate on: by their place in the data and the seed, wherever they lie."""
    count = max(1, round(known.rows * fraction))
    if count >= known.rows:
        raise InvalidValueError(f"validation={fraction} of {known.rows} rows leaves none to train on")
    mask = np.zeros(known.rows, bool)
    mask[np.random.default_rng(seed).permutation(known.rows)[:count]] = True
    return mask


@contextmanager
def _own_errors() -> Iterator[None]:
    """Turn the errors of scikit-learn's validation into ours, message and all."""
    try:
        yield
    except RaydpMLError:
        raise
    except ValueError as error:
        raise InvalidValueError(str(error)) from error
    except TypeError as error:
        raise InvalidTypeError(str(error)) from error


# -- opening -------------------------------------------------------------------------------------------------------


def _roles(estimator: EstimatorBase, validation: str | None) -> dict[str, str]:
    roles = {"weight": estimator.weight_column, "validation": validation, **estimator._extra_roles()}
    for role, name in roles.items():
        if name is not None and not isinstance(name, str):
            raise InvalidTypeError(f"{role}_column={name!r} must be a column name")
    return {role: name for role, name in roles.items() if name is not None}


def _is_pandas(X: Any) -> bool:
    return isinstance(open_frame(X), PandasFrame)


def is_plain_pandas(estimator: EstimatorBase, X: Any) -> bool:
    """Whether a pandas frame is to be read by scikit-learn's rules, all columns in order, because fit was."""
    return not getattr(estimator, "_by_name", True) and _is_pandas(X)


def open_training(
    estimator: EstimatorBase,
    X: Any,
    y: Any,
    sample_weight: Any,
    task: str,
    validation: str | None,
    *,
    reset: bool,
    vector_column: str | None = None,
) -> Opened:
    """Open what fit was given, and decide on the columns."""
    roles = _roles(estimator, validation)
    names = names_of(estimator.label_column, "label_column")
    frame = open_frame(X)
    if isinstance(frame, PathFrame):
        frame.refuse()
    if isinstance(frame, PandasFrame) and y is not None:
        names = tuple(name for name in names if name in X.columns)
        by_name = estimator.feature_columns is not None or names or roles or vector_column
        frame = frame if by_name else None
    if frame is None:
        if reset and hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_  # of an earlier fit on a frame
        if roles or estimator.feature_columns is not None:
            raise InvalidValueError(
                f"{[*roles.values()] or estimator.feature_columns} name columns, but X is a {type(X).__name__} without named "
                "columns; give sample_weight and (X, y) arrays instead"
            )
        arrays = _validated_arrays(estimator, X, y, sample_weight, task, reset)
        columns = getattr(estimator, "feature_names_in_", None)
        columns = [str(place) for place in range(arrays.X.shape[1])] if columns is None else columns
        return Opened(arrays, tuple(Feature(name) for name in columns))
    given_y = y is not None
    if given_y and not isinstance(frame, PandasFrame):
        raise InvalidTypeError(f"y was given with a {frame.kind}; its label is a column: name it with label_column")
    if sample_weight is not None and not isinstance(frame, PandasFrame):
        raise InvalidTypeError(
            f"sample_weight was given with a {frame.kind}; its weights are a column: name weight_column"
        )
    if not names and not given_y:
        raise InvalidValueError(f"label_column is not given: name the column of the {frame.kind} that holds the label")
    if len(names) > 1 and task != "regression":
        raise InvalidValueError(f"label_column={list(names)}: several labels are possible for regression only")
    selection = resolve(
        frame,
        feature_columns=estimator.feature_columns,
        label=names,
        roles=roles,
        never=(estimator.prediction_column, estimator.probability_column),
        vector_column=vector_column,
    )
    if task != "classification":
        _require_numeric_label(frame, names)
    read = Selection(selection.features, () if given_y else names, selection.roles)
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
    return Opened(data, selection.features, names, dict(selection.roles))


def check_same_features(estimator: EstimatorBase, opened: Opened) -> None:
    """Raise when training goes on with other features than before."""
    if [feature.width for feature in opened.features] != [feature.width for feature in estimator._features] or (
        opened.roles is not None and estimator._by_name and opened.features != estimator._features
    ):
        raise InvalidValueError(
            f"training cannot go on with the features {[feature.name for feature in opened.features]}: it began with "
            f"{[feature.name for feature in estimator._features]}"
        )


def _require_numeric_label(frame: Frame, names: tuple[str, ...]) -> None:
    for column in frame.columns():
        if column.name in names and column.kind not in ("number", "boolean"):
            raise InvalidTypeError(
                f"the label column {column.name!r} has the type {column.type}, which is not numeric; for labels that are names "
                'give task="classification" or a loss for it'
            )


def _validated_arrays(estimator: EstimatorBase, X: Any, y: Any, sample_weight: Any, task: str, reset: bool) -> Arrays:
    finite = True if estimator.null_features == "error" else "allow-nan"
    with _own_errors():
        X, y = validate_data(
            estimator,
            X,
            y,
            reset=reset,
            dtype=np.float32,
            order="C",
            ensure_all_finite=finite,
            multi_output=True,
            y_numeric=task != "classification",
        )
    arrays = Arrays(X, _labels(y, task, len(X)))
    if sample_weight is not None:
        arrays.weight = _weights(sample_weight, arrays)
    return arrays


def _labels(y: Any, task: str, rows: int) -> np.ndarray:
    label = np.asarray(y)
    with _own_errors():
        if label.ndim == 2 and (label.shape[1] == 1 or task == "classification"):
            label = column_or_1d(label, warn=True)
        if len(label) != rows:
            raise InvalidValueError(f"y has {len(label)} labels, but X has {rows} rows")
        if task == "classification":
            check_classification_targets(label)
    return label


def _weights(sample_weight: Any, arrays: Arrays) -> np.ndarray:
    with _own_errors():
        weight = _check_sample_weight(sample_weight, arrays.X, dtype=np.float32)
    return weight if arrays.weight is None else weight * arrays.weight


def open_validation(estimator: EstimatorBase, validation: Any, training: Opened, task: str) -> Arrays | Blocks:
    """Open a validation frame, or the arrays (X, y) or (X, y, weight)."""
    if isinstance(validation, tuple | list):
        if len(validation) not in (2, 3):
            raise InvalidValueError(
                f"validation has {len(validation)} parts; arrays are given as (X, y) or (X, y, weight)"
            )
        X, y, weight = (*validation, None)[:3]
        arrays = _validation_arrays(estimator, X, training)
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
    data = frame.load(Selection(training.features, training.label, roles))
    if isinstance(data, Blocks) and not data.refs:
        raise InvalidValueError("validation is empty: it has no rows")
    return data


def _validation_arrays(estimator: EstimatorBase, X: Any, training: Opened) -> Arrays:
    width = sum(feature.width for feature in training.features)
    if training.roles is not None and _is_pandas(X):
        return PandasFrame(X).load(Selection(training.features))
    if training.roles is None and hasattr(estimator, "feature_names_in_") and _is_pandas(X):
        names = list(estimator.feature_names_in_)
        missing = [name for name in names if name not in X.columns]
        if missing:
            raise InvalidValueError(f"validation has no column {missing}; the training data has {names}")
        X = X[names]  # by name, wherever there are names
    finite = True if estimator.null_features == "error" else "allow-nan"
    with _own_errors():
        matrix = check_array(X, dtype=np.float32, order="C", ensure_all_finite=finite, input_name="validation X")
    if matrix.shape[1] != width:
        raise InvalidValueError(f"validation has {matrix.shape[1]} features, but the training data has {width}")
    return Arrays(matrix)


# -- predicting ----------------------------------------------------------------------------------------------------


def check_matrix(estimator: EstimatorBase, X: Any) -> np.ndarray:
    """An array to predict, checked by scikit-learn's rules."""
    finite = True if estimator.null_features == "error" else "allow-nan"
    about: dict[str, Any] = {"dtype": np.float32, "order": "C", "ensure_all_finite": finite}
    with _own_errors():
        if not estimator._by_name:
            return validate_data(estimator, X, reset=False, **about)
        matrix = check_array(X, input_name="X", **about)
    if matrix.shape[1] != estimator.n_features_in_:
        raise InvalidValueError(
            f"X has {matrix.shape[1]} features, but {type(estimator).__name__} was fitted with {estimator.n_features_in_}"
        )
    return matrix


def known_features(estimator: EstimatorBase, frame: Frame) -> Selection:
    """The feature columns of a frame to predict; nothing is computed to find those that fit named."""
    by_name = hasattr(estimator, "feature_names_in_")
    described = frame.columns_now() if by_name else frame.columns()
    if described is None:
        return Selection(estimator._features)
    columns = {column.name: column for column in described}
    if not by_name:  # fitted on an array
        selection = resolve(
            frame,
            feature_columns=estimator.feature_columns,
            label=tuple(name for name in names_of(estimator.label_column, "label_column") if name in columns),
            never=(estimator.prediction_column, estimator.probability_column),
        )
        if selection.width != estimator.n_features_in_:
            raise InvalidValueError(
                f"the {frame.kind} has {selection.width} features, but {type(estimator).__name__} was fitted with "
                f"{estimator.n_features_in_} on an array"
            )
        return selection
    for feature in estimator._features:
        require_column(columns, feature.name, "the fitted features", frame.kind)
        column = columns[feature.name]
        if column.kind == "other" or (column.width not in (None, feature.width)):
            raise InvalidValueError(
                f"the feature column {feature.name!r} has the type {column.type}"
                + (f" and length {column.width}" if column.width is not None else "")
                + f", but the estimator was fitted with {feature.width} number(s) in it"
            )
    return Selection(estimator._features)


def labels_and_predictions(
    estimator: EstimatorBase, X: Any, output: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Labels, scores and weights of a frame with a label column."""
    frame = open_frame(X)
    names = names_of(estimator.label_column, "label_column")
    if frame is None or not names:
        raise InvalidValueError("there are no labels to compare with: give y, or a frame with label_column")
    columns = {column.name: column for column in frame.columns()}
    for name in names:
        require_column(columns, name, "label_column", frame.kind)
    weight = [estimator.weight_column] if estimator.weight_column in columns else []
    if isinstance(frame, PandasFrame):
        pulled = frame.pull([*names, *weight])
        scores = estimator._predict_input(X, output, "")
    else:
        place = "__raydp_prediction__"
        scored: Any = open_frame(estimator._predict_input(X, output, place))
        pulled = scored.pull([*names, *weight, place])
        scores = pulled[place]
    labels = pulled[names[0]] if len(names) == 1 else np.column_stack([pulled[name] for name in names])
    if scores.dtype == object and len(scores) and not isinstance(scores[0], str):
        lists = next((item for item in scores if isinstance(item, np.ndarray | list)), None)
        if lists is not None:
            empty = np.full(len(lists), np.nan)
            scores = np.stack([empty if item is None else np.asarray(item, np.float64) for item in scores])
    return labels, scores, pulled[weight[0]] if weight else None


# -- RayDP's fit_on_spark ------------------------------------------------------------------------------------------


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

        ready = [from_spark(frame) for frame in in_spark]
    if stop_spark:
        from raydp_ml.session import stop_spark as stop

        stop(cleanup_data=False)
    return ready
