"""Frames of Spark sessions that init_spark did not start. In a process of its own, because a process has one SparkContext."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture(scope="module")
def told(run_program: Callable[[Path], dict]) -> dict:
    return run_program(PROGRAMS / "local_session.py")


@pytest.fixture(scope="module")
def connected(run_program: Callable[[Path], dict]) -> dict:
    return run_program(PROGRAMS / "connect_session.py")


def test_rows_cross_in_pieces(told: dict) -> None:
    assert told["blocks"] > 3
    assert told["sum"] == sum(range(3_000_000)) * 0.5
    assert told["in_order"]
    assert told["chunks"] == 1


def test_types_are_those_of_to_arrow(told: dict) -> None:
    assert told["same_as_to_arrow"]
    assert told["empty"] == [0, ["id: int64", "v: tensor of double [2]"]]
    assert told["vectors"] == [[1.0, 2.0], [3.0, 4.0]]


def test_through_a_shared_folder(told: dict) -> None:
    assert told["folder_same"]
    assert told["folder_left"] == []


def test_what_needs_our_executors_says_so(told: dict) -> None:
    assert "from_spark takes frames of others" in told["read_spark"]
    assert "to_spark needs a session of raydp_ml.init_spark" in told["to_spark"]


def test_frames_of_spark_connect_cross_as_well(told: dict, connected: dict) -> None:
    assert connected["module"] == "pyspark.sql.connect.dataframe"
    same = {what: value for what, value in connected.items() if what != "module"}
    assert same == {what: told[what] for what in same}
    assert {"same_as_to_arrow", "vectors", "empty", "folder_same", "read_spark", "to_spark"} <= connected.keys()
