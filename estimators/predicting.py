"""What ``predict`` and ``score`` were given: the features of it, and labels beside predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.utils.validation import check_array

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.estimators.checks import own_errors
from raydp_ml.estimators.inputs import ColumnSpec, Validate, array_rows, by_column
from raydp_ml.estimators.learnt import Learnt
from raydp_ml.frames.columns import Feature, Selection, column_slices, require_column, resolve
from raydp_ml.frames.frame import Frame
from raydp_ml.frames.layouts import Matrix
from raydp_ml.frames.pandas_frame import PandasFrame
from raydp_ml.frames.registry import open_frame, require_frame

__all__ = [
    "LabelledPredictions",
    "check_matrix",
    "features_of",
    "frame_of",
    "label_and_predict",
    "rated",
    "weights_of",
    "with_weights",
]


def frame_of(learnt: Learnt, X: Any) -> Frame | None:
    """X as a frame; None for an array, and for a pandas frame when fit read one by scikit-learn's rules, all columns in order."""
    frame = open_frame(X)
    return None if isinstance(frame, PandasFrame) and not learnt.by_name else frame


def check_matrix(learnt: Learnt, spec: ColumnSpec, validate: Validate, X: Any, owner: str) -> Matrix:
    """An array to predict, checked by scikit-learn's rules."""

    def check(X: Any, **about: Any) -> np.ndarray:
        if not learnt.by_name:
            return validate(X, reset=False, ensure_all_finite=spec.finite, **about)[0]
        return check_array(X, input_name="X", ensure_all_finite=spec.finite, **about)

    with own_errors():
        matrix = array_rows(X, learnt.features, check, learnt.sparse)
    if matrix.shape[1] != learnt.width:
        raise InvalidValueError(f"X has {matrix.shape[1]} features, but {owner} was fitted with {learnt.width}")
    return matrix


def features_of(learnt: Learnt, spec: ColumnSpec, frame: Frame, named: bool, owner: str) -> Selection:
    """The feature columns of a frame to predict; nothing is computed to find those that fit named.

    ``named`` says whether the fitted features have names.
    """
    described = frame.columns_now() if named else frame.columns()
    if described is None:
        return Selection(learnt.features, sparse=learnt.sparse)
    columns = {column.name: column for column in described}
    if not named:  # fitted on an array
        selection = resolve(
            frame,
            feature_columns=spec.feature_columns,
            label=tuple(name for name in spec.label if name in columns),
            never=spec.never,
            categorical=any(feature.nominal for feature in learnt.features),
        )
        if selection.width != learnt.width:
            raise InvalidValueError(
                f"the {frame.kind} has {selection.width} features, but {owner} was fitted with {learnt.width} on an array"
            )
        return Selection(_typed_by_place(selection.features, learnt.features), sparse=learnt.sparse)
    for feature in learnt.features:
        require_column(columns, feature.name, "the fitted features", frame.kind)
        column = columns[feature.name]
        # Cells of any type may be categories, which is looked at where they are read.
        readable = column.is_usable(categorical=False) or (feature.nominal and feature.width == 1)
        if not readable or column.width not in (None, feature.width):
            raise InvalidValueError(
                f"the feature column {feature.name!r} has the type {column.type}"
                + (f" and length {column.width}" if column.width is not None else "")
                + f", but the estimator was fitted with {feature.width} number(s) in it"
            )
    return Selection(learnt.features, sparse=learnt.sparse)


def _typed_by_place(features: tuple[Feature, ...], fitted: tuple[Feature, ...]) -> tuple[Feature, ...]:
    """Columns in the types of the numbers that the estimator was fitted on, in their order."""
    numbers = by_column(fitted)
    types = [feature.dtype for feature in numbers]
    typed = []
    for feature, (_, part) in zip(features, column_slices(features), strict=True):
        if len(set(types[part])) > 1:
            raise InvalidValueError(
                f"the column {feature.name!r} holds numbers that the model takes in several types, {sorted(set(types[part]))}; "
                "give them in columns of their own"
            )
        nominal = tuple(
            replace(each, place=place) for place, number in enumerate(numbers[part]) for each in number.nominal
        )
        typed.append(replace(feature, dtype=types[part.start], nominal=nominal))
    return tuple(typed)


@dataclass(frozen=True)
class LabelledPredictions:
    """Labels of rows, what was predicted for them, and their weights."""

    labels: np.ndarray
    predictions: np.ndarray
    weight: np.ndarray | None


def label_and_predict(
    label: tuple[str, ...], weight_column: str | None, X: Any, predict: Callable[[], Any], column: str
) -> LabelledPredictions:
    """Labels, predictions and weights of a frame with a label column.

    Parameters
    ----------
    label : tuple of str
        Names of the label columns.
    weight_column : str or None
        Weights of rows, where the frame has that column.
    X : frame
        The rows.
    predict : callable
        Predicts X: an array, or a frame with one more column.
    column : str
        The name of that column.
    """
    frame = open_frame(X)
    if frame is None or not label:
        raise InvalidValueError("there are no labels to compare with: give y, or a frame with label_column")
    columns = {each.name: each for each in frame.columns()}
    for name in label:
        require_column(columns, name, "label_column", frame.kind)
    weight = [weight_column] if weight_column is not None and weight_column in columns else []
    predicted = predict()
    if isinstance(predicted, np.ndarray):
        pulled = frame.pull([*label, *weight])
    else:
        pulled = require_frame(predicted).pull([*label, *weight, column])
        predicted = pulled[column]
    labels = [pulled[name] for name in label]
    if predicted.dtype == object and len(predicted) and not isinstance(predicted[0], str):
        lists = next((item for item in predicted if isinstance(item, np.ndarray | list)), None)
        if lists is not None:
            empty = np.full(len(lists), np.nan)
            predicted = np.stack([empty if item is None else np.asarray(item, np.float64) for item in predicted])
    return LabelledPredictions(
        labels[0] if len(labels) == 1 else np.column_stack(labels), predicted, pulled[weight[0]] if weight else None
    )


def weights_of(spec: ColumnSpec, X: Any) -> np.ndarray | None:
    """The weight column of a pandas frame that has one."""
    if spec.weight_column is None or not isinstance(frame := open_frame(X), PandasFrame):
        return None
    return frame.pull([spec.weight_column])[spec.weight_column] if spec.weight_column in X.columns else None


def with_weights(found: LabelledPredictions, X: Any, sample_weight: Any) -> LabelledPredictions:
    """Labels and predictions of rows that are given weights, beside those that they have."""
    frame = open_frame(X)
    if frame is not None and not isinstance(frame, PandasFrame):
        raise InvalidTypeError(
            f"sample_weight was given with a {frame.kind}; its weights are a column: name weight_column"
        )
    weight = np.asarray(sample_weight)
    if weight.shape != (len(found.labels),):
        raise InvalidValueError(f"sample_weight has the shape {weight.shape}, but X has {len(found.labels)} rows")
    return replace(found, weight=weight if found.weight is None else weight * found.weight)


def rated(found: LabelledPredictions, null_features: str) -> LabelledPredictions:
    """The rows that have a prediction; a row without one is an error unless ``null_features`` allows it."""
    labels, predictions, weight = found.labels, found.predictions, found.weight
    there = ~_missing(predictions)
    if not there.all():
        if null_features == "error":
            raise InvalidValueError(
                f"{int((~there).sum())} of {len(predictions)} predictions are NaN, which cannot be compared with labels: the "
                "model has diverged, or its outputs are not finite; train with a smaller learning rate, or scale the features"
            )
        labels, predictions = labels[there], predictions[there]
        weight = None if weight is None else weight[there]
    if predictions.dtype == object and labels.dtype != object:
        predictions = predictions.astype(labels.dtype)
    return LabelledPredictions(labels, predictions, weight)


def _missing(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        missing = np.isnan(values)
    elif values.dtype == object:
        missing = np.frompyfunc(lambda item: item is None or item != item, 1, 1)(values).astype(bool)
    else:
        missing = np.zeros(values.shape, bool)
    return missing.any(axis=1) if missing.ndim == 2 else missing
