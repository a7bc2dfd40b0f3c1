"""Waiting for a condition in tests: looks again and again without burning the processor, and fails when the time is up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest


def until(condition: Callable[[], object], seconds: float, what: Callable[[], object] | str) -> None:
    """Return when the condition holds.

    Parameters
    ----------
    condition : callable
        Looked at ten times a second.
    seconds : float
        Fail after so long.
    what : str or callable
        What was waited for, for the failure; a callable is asked at the end.
    """
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what() if callable(what) else what}")
        pause.wait(0.1)


def until_free(cpus: float) -> None:
    """Return when so many CPUs of the cluster are free: Ray's idle workers may hold those of a task before for a moment."""
    import ray

    until(
        lambda: ray.available_resources().get("CPU", 0) == cpus,
        30,
        lambda: f"{cpus} free in {ray.available_resources()}",
    )
