"""What a program ships reaches executors, their Python workers and Ray's tasks alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.slow
def test_everything_shipped_arrives(run_program: Callable[[Path], dict]) -> None:
    told = run_program(Path(__file__).parent / "programs" / "dependencies.py")
    of_ray = {"modules": "in_py_modules", "work": "in_working_dir", "variable": "yes"}
    assert told["task"] == of_ray
    assert told["spark"] == of_ray | {"py_file": "in_py_file", "archive": "in_archive", "file": "in_file"}
    assert told["jar"] == [1, 2, 3]
