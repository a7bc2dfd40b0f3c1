"""Which columns of a distributed frame a search reads, asked of estimators through their parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.estimators.base import EstimatorBase
from raydp_ml.frames.arrays import plain_values
from raydp_ml.frames.columns import Selection, names_of, resolve
from raydp_ml.frames.frame import Frame
from raydp_ml.search.folds.splits import codes_of

__all__ = ["COLUMN_PARAMS", "column_params", "label_names", "load", "named_columns", "select_columns"]

# Which parameter names the column of a role; "validation" holds a column only when it is a string.
_ROLES = {"weight": "weight_column", "qid": "qid_column", "base_margin": "base_margin_column"}

COLUMN_PARAMS = (
    "feature_columns",
    "label_column",
    *_ROLES.values(),
    "validation",
    "prediction_column",
    "probability_column",
    "feature_types",
    "merge_feature_columns",
    "sparse",
    "enable_categorical",
)
"""Parameters of an estimator that decide which columns cross to the trials, and in which types."""


def column_params(estimator: Any) -> dict[str, Any]:
    """The parameters of an estimator that decide on columns; None for those that it does not have, and for categories that it
    does not take: estimators of several kinds share what crosses."""
    params: Mapping[str, Any] = estimator.get_params(deep=False)
    return {
        **{name: params.get(name) for name in COLUMN_PARAMS},
        "enable_categorical": params.get("enable_categorical") or None,
    }


def label_names(estimator: Any) -> tuple[str, ...]:
    """The label columns of an estimator, of which a frame needs at least one."""
    names = names_of(column_params(estimator)["label_column"], "label_column")
    if not names:
        raise InvalidValueError(
            f"label_column of {type(estimator).__name__} is not given: name the column that holds the label"
        )
    return names


def select_columns(estimator: Any, frame: Frame, vector_column: str | None) -> Selection:
    """The columns of a frame that the estimator would train on."""
    params = column_params(estimator)
    validation = params["validation"]
    if validation is not None and not isinstance(validation, str | float):
        raise InvalidTypeError(
            "in a search, validation must be a fraction or the name of a column, not rows of its own"
        )
    roles = {role: params[name] for role, name in _ROLES.items()}
    roles["validation"] = validation if isinstance(validation, str) else None
    selection = resolve(
        frame,
        feature_columns=params["feature_columns"],
        label=label_names(estimator),
        roles={role: name for role, name in roles.items() if name is not None},
        never=[name for name in (params["prediction_column"], params["probability_column"]) if name is not None],
        vector_column=vector_column,
        categorical=bool(params["enable_categorical"]),
    )
    return estimator.in_layout(selection, frame) if isinstance(estimator, EstimatorBase) else selection


def load(frame: Frame, selection: Selection, extra: Sequence[str]) -> Any:
    """Cross the selected columns and further ones, which come last among the labels."""
    return frame.load(replace(selection, label=(*selection.label, *extra)))


def named_columns(
    label: Sequence[str], extra: Sequence[str], columns: Sequence[pa.ChunkedArray], *, as_codes: bool
) -> dict[str, np.ndarray]:
    """Labels under ``"y"``, further columns under their names.

    Parameters
    ----------
    label, extra : sequence of str
        Names of the label columns and of those of groups and folds.
    columns : sequence of pyarrow.ChunkedArray
        Those columns, in that order.
    as_codes : bool
        Whether codes will do for columns of text.

    Raises
    ------
    InvalidValueError
        When labels are null or NaN, which is said before anything is fitted.
    """
    missing = sum(_nulls(column) for column in columns[: len(label)])
    if missing:
        raise InvalidValueError(
            f"the label {', '.join(label)!r} is null or NaN in {missing} of {len(columns[0])} rows; drop or fill them"
        )
    pulled = [plain_values(codes_of(column) if as_codes else column) for column in columns]
    y = pulled[0] if len(label) == 1 else np.column_stack(pulled[: len(label)])
    return {"y": y, **dict(zip(extra, pulled[len(label) :], strict=True))}


def _nulls(column: pa.ChunkedArray) -> int:
    counted = column.null_count
    if pa.types.is_floating(column.type):
        counted += pc.sum(pc.is_nan(column)).as_py() or 0
    return int(counted)
