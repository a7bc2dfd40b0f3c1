"""A lost block gives its old rows or an error, whatever the plan: a program on two nodes, one of which is killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "programs" / "lost_rows.py"
EXACT = {"plain", "repartition"}


@pytest.fixture(scope="module")
def told(run_program: Callable[[Path], dict]) -> dict:
    return run_program(PROGRAM)


def test_blocks_were_lost(told: dict) -> None:
    assert sum(lost > 0 for lost in told["lost"].values()) >= len(told["lost"]) - 2, told


def test_every_block_has_its_old_rows_or_is_refused(told: dict) -> None:
    for name, read in told["read"].items():
        assert set(read) <= {"same", "refused"}, (name, read)
        assert read.get("refused", 0) <= told["lost"][name], (name, read)


def test_plans_that_give_the_same_rows_lose_nothing(told: dict) -> None:
    assert {name: list(told["read"][name]) for name in EXACT} == {name: ["same"] for name in EXACT}


def test_a_random_function_is_recognised(told: dict) -> None:
    assert told["read"]["random function"].get("refused", 0) == told["lost"]["random function"]
