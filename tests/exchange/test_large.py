"""More rows than memory has room for, and partitions beyond 2 GiB: in programs, because they want object stores of their size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture(scope="module")
def full(run_program: Callable[[Path], dict]) -> dict:
    return run_program(PROGRAMS / "full_store.py")


def all_rows(count: int, width: int) -> list[int]:
    return [count, count * (count - 1) // 2, count * width]


def test_from_spark_spills_what_does_not_fit_and_loses_nothing(full: dict) -> None:
    assert full["bytes"] > 2.5 * full["store"]
    assert full["spilled_by_from_spark"] > full["bytes"] - full["store"] - full["spilled_by_read_spark"]
    assert full["all"] == all_rows(400_000, 1000)
    assert full["back"] == all_rows(400_000, 1000)


def test_read_spark_stays_within_the_store_in_each_epoch(full: dict) -> None:
    assert full["epochs"] == [all_rows(400_000, 1000)] * 2
    assert full["spilled_by_read_spark"] == 0
    assert full["most"] <= full["store"]


@pytest.fixture(scope="module")
def small(run_program: Callable[[Path], dict]) -> dict:
    return run_program(PROGRAMS / "small_memory.py")


def test_blocks_of_dropped_frames_are_let_go_before_ray_spills(small: dict) -> None:
    told, rows = small, 1_500_000
    assert told["sums"] == [rows * (rows - 1) // 2 + number * rows for number in range(20)]
    assert told["written"] > 0.8 * told["store"]
    assert told["spilled"] == 0
    assert told["most"] < told["store"]
    # No more often than every five seconds; one is two for the JVM's counters at most.
    assert 1 <= told["collections"] <= 2 * (told["seconds"] / 5 + 1)


@pytest.mark.parametrize("kind", ["strings", "nested"])
def test_a_conversion_takes_little_of_the_executors_heap(small: dict, kind: str) -> None:
    peak, size = small["heap"][kind]
    assert size > 30e6
    # The young generation has 24 MB, and the block lies outside of the heap.
    assert 0 < peak < min(size, 48e6)


@pytest.mark.slow
def test_partitions_and_blocks_of_more_than_two_gigabytes(run_program: Callable[[Path], dict]) -> None:
    told = run_program(PROGRAMS / "big_partition.py")
    assert told["there"] == told["back"] == told["from_one_block"] == all_rows(2_400_000, 1000)
    assert told["letters"] == ["ppp", "qqq", "rrr"]
    assert sum(told["blocks"]) > 2**31
    assert all(size < 1.1 * told["target"] for size in told["blocks"])
    assert all(size > 0.8 * told["target"] for size in told["blocks"][:-1])
