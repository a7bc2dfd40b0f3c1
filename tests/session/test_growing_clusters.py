"""Clusters whose nodes come and go; each runs as a program of its own, because a process has one Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
PROGRAMS = Path(__file__).parent / "programs"


def test_executors_make_the_cluster_grow_and_it_shrinks_without_them(run_program: Callable[[Path], dict]) -> None:
    told = run_program(PROGRAMS / "autoscaling.py")
    assert told["nodes_before"] == 1
    assert told["nodes_with_executors"] == 3
    assert told["wanted_back"] == {
        "nodes": 3,
        "tasks": 2,
    }  # executors that want their CPUs back are no demand for nodes
    assert told["count"] == 100_000
    assert told["nodes_with_blocks"] >= 2
    assert told["sum"] == 2.0 * 100_000 * 99_999 / 2
    assert told["nodes_after"] == 1


def test_the_executor_of_a_draining_node_moves_with_its_cached_blocks(run_program: Callable[[Path], dict]) -> None:
    told = run_program(PROGRAMS / "draining.py")
    assert told == {"same": True, "count": 100_000}
