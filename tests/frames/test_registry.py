"""What kind an input is, asked in one place; a new kind is one class and one line."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from raydp_ml import XGBEstimator
from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.frames import open_frame, registry, require_frame
from raydp_ml.frames.pandas_frame import PandasFrame
from raydp_ml.frames.path import PathFrame
from raydp_ml.frames.table import TableFrame

NUMBERS = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [0.0, 1.0, 0.0, 1.0], "y": [1.0, 2.0, 3.0, 4.0]})


class Subclass(pd.DataFrame):
    """pandas users subclass their frames, geopandas for example."""


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (NUMBERS, PandasFrame),
        (Subclass(NUMBERS), PandasFrame),
        (pa.table({"a": [1]}), TableFrame),
        ("rows.parquet", PathFrame),
        (Path("rows.parquet"), PathFrame),
        (np.zeros((2, 2)), None),
        ([[1.0]], None),
        (NUMBERS["a"], None),
    ],
    ids=["pandas", "subclass", "arrow", "string", "path", "array", "list", "series"],
)
def test_an_input_is_of_the_kind_of_its_type(value: Any, kind: type | None) -> None:
    frame = open_frame(value)
    assert frame is None if kind is None else type(frame) is kind


def test_a_frame_is_opened_once() -> None:
    frame = open_frame(NUMBERS)
    assert open_frame(frame) is frame


def test_what_is_no_frame_is_named() -> None:
    with pytest.raises(InvalidTypeError, match=r"got numpy\.ndarray"):
        require_frame(np.zeros(2))


@pytest.mark.parametrize(
    "frame",
    [pd.DataFrame([[1, 2]], columns=["a", "a"]), pa.table([[1], [2]], names=["a", "a"])],
    ids=["pandas", "arrow"],
)
def test_two_columns_of_one_name_are_refused(frame: Any) -> None:
    with pytest.raises(InvalidValueError, match=r"several columns named \['a'\]"):
        require_frame(frame).columns()


@pytest.mark.parametrize("given", [NUMBERS, pa.Table.from_pandas(NUMBERS)], ids=["pandas", "arrow"])
def test_columns_and_rows_are_left_out_in_the_kind_of_the_input(given: Any) -> None:
    frame = require_frame(given)
    narrow, short = frame.drop(["a", "y"]), frame.take(np.array([3, 0]))
    assert type(narrow) is type(short) is type(given)
    assert [column.name for column in require_frame(narrow).columns()] == ["b"]
    assert require_frame(short).pull(["a"])["a"].tolist() == [4.0, 1.0]
    assert [column.name for column in frame.columns()] == ["a", "b", "y"]


def test_what_a_kind_does_not_offer_is_an_error_of_ours() -> None:
    with pytest.raises(InvalidTypeError, match="columns cannot be left out of a path"):
        require_frame("rows.parquet").drop(["a"])
    with pytest.raises(InvalidTypeError, match="rows of a path cannot be taken by their position"):
        require_frame("rows.parquet").take([0])


def test_paths_are_for_pipelines() -> None:
    with pytest.raises(InvalidTypeError, match=r"'rows\.parquet'; only pipelines read paths"):
        XGBEstimator(task="regression", label_column="y").fit("rows.parquet")


def test_a_new_kind_is_one_class_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Columns:
        """Somebody's own frame: a dict of arrays."""

        def __init__(self, **columns: Any) -> None:
            self.held = columns

    class ColumnsFrame(TableFrame):
        kind = "bundle of columns"

        def __init__(self, value: Columns) -> None:
            super().__init__(pa.table(value.held))

    home = ModuleType("columns_frame")
    home.ColumnsFrame = ColumnsFrame  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "columns_frame", home)
    line = (f"{Columns.__module__}.", "Columns", "columns_frame:ColumnsFrame")
    monkeypatch.setattr(registry, "KINDS", [*registry.KINDS, line])

    rows = Columns(a=[1.0, 2.0, 3.0, 4.0], y=[1.0, 2.0, 3.0, 4.0])
    est = XGBEstimator(
        task="regression", label_column="y", num_boost_round=60, eta=0.5, min_child_weight=0, verbose=False
    )
    predicted = est.fit(rows).predict(rows)
    np.testing.assert_allclose(predicted["prediction"].to_numpy(), [1, 2, 3, 4], atol=0.05)
    with pytest.raises(InvalidValueError, match="bundle of columns has no column 'z'"):
        XGBEstimator(task="regression", label_column="z").fit(rows)
