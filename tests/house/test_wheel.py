"""The wheel holds what runs: all packages under their import names, the Scala sources, the jars; checked from outside."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Where a folder of the tree is found in the wheel.
MAPPED = {"raydp_ml": "raydp_ml", "estimators": "raydp_ml/estimators", "jvm": "raydp_ml/jvm", "raydp": "raydp"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A copy of the sources, so that building leaves nothing behind and a jar can be put in."""
    copy = tmp_path_factory.mktemp("tree")
    for file in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy)
    for folder in MAPPED:
        skipped = shutil.ignore_patterns("__pycache__", "jars")
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=skipped)
    jars = copy / "raydp_ml" / "jars"
    jars.mkdir()
    (jars / "raydp-ml-spark-0.0_0.0-test.jar").write_bytes(b"not really a jar")
    return copy


@pytest.fixture(scope="module")
def wheel(tree, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(out), str(tree)]
    done = subprocess.run(pip, capture_output=True, text=True, cwd=out, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


def test_wheel_holds_every_source_file(tree, wheel):
    expected = {"raydp_ml/py.typed", "raydp_ml/jars/raydp-ml-spark-0.0_0.0-test.jar"}
    for folder, inside in MAPPED.items():
        for file in (tree / folder).rglob("*"):
            is_linked = any(parent.is_symlink() for parent in file.parents)
            is_source = file.suffix in {".py", ".scala"} or "resources" in file.parts
            if file.is_file() and is_source and not is_linked:
                expected.add(f"{inside}/{file.relative_to(tree / folder).as_posix()}")
    assert {"raydp_ml/estimators/__init__.py", "raydp_ml/jvm/__init__.py", "raydp/__init__.py"} <= expected
    assert sum(name.endswith(".scala") for name in expected) > 5
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == expected


def test_wheel_works_outside_the_tree(wheel, tmp_path):
    target = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(target)
    code = """
import importlib.util, sys
import raydp_ml, raydp
from raydp_ml.cluster.jar import sources
print(raydp_ml.__file__)
print(raydp.__file__)
print(importlib.util.find_spec("raydp_ml.estimators").origin)
print(*sources())
"""
    # -I keeps the tree out of the path, and the extracted wheel comes before what is installed.
    start = f"import sys; sys.path.insert(0, {str(target)!r})\n"
    done = subprocess.run(
        [sys.executable, "-I", "-c", start + code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    package, peer, estimators, sources = done.stdout.splitlines()
    assert package == str(target / "raydp_ml" / "__init__.py")
    assert peer == str(target / "raydp" / "__init__.py")
    assert estimators == str(target / "raydp_ml" / "estimators" / "__init__.py")
    assert any(name.endswith(".scala") for name in sources.split())
    assert any("META-INF/services" in name for name in sources.split())


def test_metadata(wheel):
    files = zipfile.ZipFile(wheel)
    (name,) = [name for name in files.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = files.read(name).decode()
    assert "Requires-Python: >=3.11" in metadata
    assert "License-Expression: Apache-2.0" in metadata
    for extra in ("torch", "tensorflow", "xgboost", "skorch", "all", "dev", "docs", "examples"):
        assert f"Provides-Extra: {extra}\n" in metadata
    (pandas,) = [
        line for line in metadata.splitlines() if line.startswith("Requires-Dist: pandas>") and "extra" not in line
    ]
    assert "<3" not in pandas
