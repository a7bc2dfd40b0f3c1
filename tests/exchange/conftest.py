"""Runs programs that need a Ray cluster of their own, since a process has one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def run_program() -> Callable[[str], dict]:
    """Runs a file of the folder programs and returns what it printed after RESULT."""

    def run(name: str) -> dict:
        program = Path(__file__).parent / "programs" / name
        done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=540, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        if not lines:
            pytest.fail(f"{name} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")
        return json.loads(lines[0].removeprefix("RESULT "))

    return run
