"""`import raydp_ml` is quick, pulls in nothing heavy, and every name it promises is there."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from types import ModuleType

import pytest

import raydp_ml

HEAVY = ["torch", "tensorflow", "keras", "xgboost", "skorch", "pyspark", "ray", "sklearn", "pandas", "pyarrow"]


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def wall(code: str) -> float:
    begun = time.perf_counter()
    run_python(code)
    return time.perf_counter() - begun


def test_import_takes_less_than_three_tenths_of_a_second():
    timed = "import time; t = time.perf_counter(); import raydp_ml; print(time.perf_counter() - t)"
    assert statistics.median(float(run_python(timed)) for _ in range(5)) < 0.3


def test_import_adds_less_than_three_tenths_of_a_second_to_a_process():
    added = [wall("import raydp_ml") - wall("pass") for _ in range(5)]
    assert statistics.median(added) < 0.3


def test_import_loads_no_heavy_library():
    loaded = run_python("import sys, raydp_ml; dir(raydp_ml); print(*sys.modules)").split()
    assert "raydp_ml" in loaded
    assert not set(HEAVY) & {name.split(".")[0] for name in loaded}


@pytest.mark.parametrize("name", [name for name in raydp_ml.__all__ if name != "__version__"])
def test_public_name_resolves(name):
    value = getattr(raydp_ml, name)
    assert value.__name__.rpartition(".")[2] == name
    assert (value.__name__ if isinstance(value, ModuleType) else value.__module__).startswith("raydp_ml.")
    assert value.__doc__, f"{name} has no docstring"


def test_dir_lists_the_public_names():
    assert set(raydp_ml.__all__) <= set(dir(raydp_ml))


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        raydp_ml.no_such_name  # noqa: B018


def test_version_is_the_same_everywhere():
    assert raydp_ml.__version__ == version("raydp-ml")
