"""What needs several Ray nodes runs as a program of its own, because a process has one Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

ROWS = 800_000
PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture(scope="module")
def told(run_program: Callable[[Path], dict]) -> dict:
    return run_program(PROGRAMS / "two_nodes.py")


def test_each_node_has_an_executor_and_its_own_staging(told: dict) -> None:
    assert told["executor_nodes"] == 2
    assert told["staging_used"] == [True, True]
    assert told["block_nodes"] == 2


def test_to_spark_moves_every_row_between_the_nodes(told: dict) -> None:
    assert told["back"] == [ROWS, 2.5 * ROWS * (ROWS - 1) / 2, 7]


def test_a_block_of_files_from_both_nodes(told: dict) -> None:
    assert told["shared"] == [1, 1000, 2.5 * 1000 * 999 / 2]


def test_blocks_of_a_killed_node_are_rebuilt(told: dict) -> None:
    assert told["lost"] >= 1
    assert told["after"] == [ROWS, 2.5 * ROWS * (ROWS - 1) / 2]
    assert told["spark_after"] == 1000


@pytest.mark.parametrize("nodes", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_rows_of_many_nodes_stay_there_and_pass_by_the_driver(run_program: Callable[..., dict], nodes: int) -> None:
    told = run_program(PROGRAMS / "many_nodes.py", str(nodes))
    assert len(told["home"]) == nodes
    # Each block lies where its rows were made, and there only.
    assert told["blocks"] == [[node] for node in told["made_on"]]
    assert set(told["made_on"]) == set(told["home"])
    rows = told["rows"]
    assert told["back"] == [rows, 2.5 * rows * (rows - 1) / 2, nodes]
    # What is said of partitions and results; and the object store of the driver's node has no block.
    assert told["bytes"] > 25e6
    assert max(told["driver_bytes"].values()) < told["bytes"] / 50
    assert told["driver_store"] < told["bytes"] / 50


@pytest.mark.slow
def test_a_task_that_waits_for_a_lost_block_lets_it_be_computed_in_its_slot(
    run_program: Callable[[Path], dict],
) -> None:
    told = run_program(PROGRAMS / "one_slot.py")
    assert told["blocks"] >= 4
    assert told["sum"] == 2.5 * 400_000 * 399_999 / 2
