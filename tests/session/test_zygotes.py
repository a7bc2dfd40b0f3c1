"""What is imported ahead takes little from others, and changes nothing for those that are forked afterwards."""

from __future__ import annotations

import os
import threading
from typing import NoReturn

import pytest

from raydp_ml.cluster.zygotes import at_leisure
from raydp_ml.estimators.launch.cpus import threads_for


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_work_at_leisure_is_nice_and_its_caller_is_not() -> None:
    before, seen = niceness(), []
    at_leisure(lambda: seen.append((niceness(), threading.current_thread() is threading.main_thread())))
    assert seen == [(10, False)] and niceness() == before
    assert "raydp-ml-imports" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_fails_at_leisure_is_nobodys_error() -> None:
    def fail() -> NoReturn:
        raise ImportError("no such module")

    at_leisure(fail)


@pytest.mark.parametrize(("cpus", "threads"), [(0.5, 1), (1.0, 1), (2.9, 2), (8.0, 3)])
def test_workers_use_no_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch, cpus: float, threads: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    assert threads_for(cpus) == threads
