"""A driver outside of the cluster (ray.init("ray://...")): what works there, what is refused, and that SIGTERM ends it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.started_ray import started_ray

PROGRAM = Path(__file__).parent / "programs" / "ray_client.py"


@pytest.mark.slow
def test_a_session_of_a_ray_client(tmp_path: Path) -> None:
    with started_ray(4) as cluster, open(tmp_path / "stderr", "w") as errors:
        driver = subprocess.Popen(
            [sys.executable, str(PROGRAM), cluster.client],
            env=cluster.environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            line = next((line for line in driver.stdout or () if line.startswith("RESULT ")), None)
            assert line is not None, (tmp_path / "stderr").read_text()[-4000:]
            driver.send_signal(signal.SIGTERM)
            driver.wait(20)
        finally:
            driver.kill()
            driver.communicate()
    told = json.loads(line.removeprefix("RESULT "))
    refused = told.pop("refused")
    assert told.pop("seconds") < 240
    assert told == {
        "sum": 4950,
        "python": 14,
        "count": 1000,
        "columns": ["id", "x", "label"],
        "in_task": 999_000.0,
        "executors": 1,
        "fit_on_arrays": 20,
        "again": 10,
    }
    named = {
        "to_spark": "to_spark needs",
        "read_spark": "read_spark needs",
        "iter_batches": "Dataset.iter_batches needs",
        "take": "Dataset.take needs",
        "fit": "a fit on workers needs",
        "search": "a search needs",
    }
    for name, begin in named.items():
        assert refused[name].startswith(begin), refused[name]
        assert "raydp-submit --deploy-mode cluster" in refused[name]
