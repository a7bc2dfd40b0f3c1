"""Which columns are features, and how their cells become numbers."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from raydp_ml import InvalidTypeError, InvalidValueError
from raydp_ml.frames.arrays import arrays_of_table
from raydp_ml.frames.columns import Feature, Selection, resolve
from raydp_ml.frames.registry import open_frame


def chosen(frame, **kwargs):
    return [feature.name for feature in resolve(open_frame(frame), **kwargs).features]


TABLE = pa.table(
    {
        "id": [1, 2],
        "x": [0.5, 1.5],
        "flag": [True, False],
        "name": ["a", "b"],
        "v": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32())),
        "y": [0, 1],
        "w": [1.0, 1.0],
        "fold": [0, 1],
        "__raydp_row": [0, 1],
        "prediction": [0.0, 1.0],
    }
)


def test_numbers_flags_and_vectors_without_a_role_are_features(caplog):
    with caplog.at_level(logging.INFO, logger="raydp_ml.frames"):
        names = chosen(TABLE, label=("y",), roles={"weight": "w"}, never=("prediction",))
    assert names == ["x", "flag", "v"]
    assert [record.getMessage() for record in caplog.records] == [
        "features: x, flag, v (left out: id, fold, __raydp_row)"
    ]


def test_named_features_come_in_their_order_with_their_widths():
    selection = resolve(open_frame(TABLE), feature_columns=["v", "id"], label=("y",))
    assert selection.features == (Feature("v", 2), Feature("id", 1)) and selection.width == 3


def test_the_pipelines_vector_is_alone():
    assert chosen(TABLE, label=("y",), vector_column="v") == ["v"]
    assert chosen(TABLE, feature_columns="x", label=("y",), vector_column="v") == ["x"]


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"feature_columns": ["X"]}, InvalidValueError, "no column 'X'; did you mean 'x'"),
        ({"feature_columns": ["name"]}, InvalidTypeError, "'name' has the type string"),
        ({"feature_columns": []}, InvalidValueError, "feature_columns is empty"),
        ({"feature_columns": ["x", "x"]}, InvalidValueError, "more than once"),
        ({"feature_columns": [1]}, InvalidTypeError, "must be a column name or a list"),
        ({"feature_columns": ["y"], "label": ("y",)}, InvalidValueError, "named as a feature and as label"),
        ({"label": ("late",)}, InvalidValueError, "label_column: the pyarrow Table has no column 'late'"),
        ({"roles": {"weight": "name"}}, InvalidTypeError, "weight column 'name' has the type string"),
    ],
)
def test_columns_that_cannot_be_used_are_named(kwargs, error, message):
    kwargs.setdefault("label", ())
    with pytest.raises(error, match=message):
        resolve(open_frame(TABLE), **kwargs)


def test_repeated_names_and_frames_without_numbers():
    repeated = pd.DataFrame([[1, 2]], columns=["a", "a"])
    with pytest.raises(InvalidValueError, match=r"several columns named \['a'\]"):
        chosen(repeated)
    with pytest.raises(InvalidValueError, match="no numeric or vector column"):
        chosen(pa.table({"name": ["a"]}))


@pytest.mark.parametrize("kind", ["pandas", "arrow"])
def test_every_numeric_type_becomes_float32(kind):
    from decimal import Decimal

    table = pa.table(
        {
            "i8": pa.array([1, None], pa.int8()),
            "u64": pa.array([2, 3], pa.uint64()),
            "half": pa.array(np.array([0.5, 1.5], np.float16)),
            "money": pa.array([Decimal("1.25"), None], pa.decimal128(10, 2)),
            "flag": pa.array([True, False]),
            "fixed": pa.array([[1.0, 2.0], [3.0, None]], pa.list_(pa.float64(), 2)),
        }
    )
    if kind == "pandas":
        table = table.drop_columns(["money", "fixed"]).to_pandas(types_mapper=pd.ArrowDtype)
    frame = open_frame(table)
    arrays = frame.load(resolve(frame))
    expected = [[1, 2, 0.5, 1], [np.nan, 3, 1.5, 0]]
    if kind == "arrow":
        expected = [[1, 2, 0.5, 1.25, 1, 1, 2], [np.nan, 3, 1.5, np.nan, 0, 3, np.nan]]
    assert arrays.X.dtype == np.float32 and np.array_equal(arrays.X, np.array(expected, np.float32), equal_nan=True)


def test_a_fixed_size_float32_column_is_not_copied():
    values = pa.array(np.arange(6, dtype=np.float32))
    table = pa.table({"v": pa.FixedSizeListArray.from_arrays(values, 3)})
    X = arrays_of_table(table, Selection((Feature("v", 3),))).X
    assert X.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert np.shares_memory(X, values.to_numpy())


def test_vectors_of_another_length_are_an_error():
    table = pa.table({"v": [[1.0, 2.0], [3.0]]})
    with pytest.raises(InvalidValueError, match="'v' holds vectors of length 1 where 2 is expected"):
        arrays_of_table(table, Selection((Feature("v", 2),)))


def test_tensors_and_vectors_in_pandas_cells():
    from ray.data.extensions import ArrowTensorArray

    tensors = pa.table({"t": ArrowTensorArray.from_numpy(np.arange(8, dtype=np.float64).reshape(2, 2, 2))})
    frame = open_frame(tensors)
    assert frame.load(resolve(frame)).X.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    cells = open_frame(pd.DataFrame({"v": [[1.0, 2.0], np.array([3.0, 4.0])]}))
    assert cells.load(resolve(cells)).X.tolist() == [[1, 2], [3, 4]]
