"""CPUs that executors lend, on clusters of real nodes and on small machines; each runs as a program of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import raydp_ml
from raydp_ml.cluster import lending

PROGRAMS = Path(__file__).parent / "programs"


@pytest.mark.slow
def test_executors_lend_and_take_back_and_leave_no_reservation(run_program: Callable[[Path], dict]) -> None:
    told = run_program(PROGRAMS / "lending.py")
    assert told.pop("seconds_until_lent") < 5
    assert told == {
        "executors_per_node": [2, 2],
        "fit_starts": True,
        "kept_while_asked": [False, False, True, True],
        "converted": ["x"],
        "foreign_waits": True,
        "job": 8,
        "foreign_comes": True,
        "job_beside_it": 499_500,
        "lent_beside_it": [True] * 4,
        "job_with_losses": 8,
        "groups_after_stop": {},
    }


@pytest.mark.slow
def test_work_in_ray_finds_the_cpus_of_the_default_session(run_program: Callable[[Path], dict]) -> None:
    told = run_program(PROGRAMS / "small_machine.py")
    for cpus in ("2", "1"):
        assert told[cpus].pop("seconds") < 30
        assert told[cpus] == {"task": 7, "data": 1000 * 999 + 1000, "train": int(cpus), "spark": 100, "groups": 0}


@pytest.mark.slow
def test_fits_that_say_nothing_of_cpus_find_some(run_program: Callable[[Path], dict]) -> None:
    told = run_program(PROGRAMS / "default_fits.py")
    score, session = told["two"]
    assert score > 0.8
    assert session == {}  # it ended with the block of ``with pipe:``
    assert told["one"] == told["two"]
    assert told["published"] == [1, 2]


def test_asking_without_a_session_does_nothing() -> None:
    with lending.ask_for(2) as loan:
        loan.ask_again()
    with pytest.raises(raydp_ml.InvalidValueError, match="cpus=0 and each=1"), lending.ask_for(0, each=1):
        pass


def test_work_that_no_node_could_hold_is_refused_at_once(ray_cluster: None) -> None:
    lending.require_possible({"CPU": 4.0}, 1, "training workers")
    lending.require_possible({"CPU": 1.0, "special": 1.0}, 2, "training workers")
    told = r"(?s)could never hold 1 training workers.*CPU +999 +999 +4 +4"
    with pytest.raises(raydp_ml.ResourceTimeoutError, match=told):
        lending.require_possible({"CPU": 999.0}, 1, "training workers")
    with pytest.raises(raydp_ml.ResourceTimeoutError, match=r"(?s)never hold 3 trials.*special +1 +3 +2 +2"):
        lending.require_possible({"CPU": 1.0, "special": 1.0}, 3, "trials")
