"""What `make` says on a machine that lacks something, and what it installs when."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECK = ROOT / "scripts" / "check_machine.sh"
TOOLS = ["sh", "dirname", "cat"]


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def fake_java(path: Path, version: str) -> Path:
    return script(path, f"echo 'openjdk version \"{version}\" 2024-01-01' >&2")


@pytest.fixture
def bare(tmp_path) -> Path:
    """A folder for PATH with the shell's tools and nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(str(shutil.which(tool)))
    return folder


def check(bare: Path, spark: str = "4.3.0", **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(bare / "sh"), str(CHECK), str(bare / "no-environment"), spark]
    return subprocess.run(
        command, capture_output=True, text=True, env={"PATH": str(bare), **environment}, check=False, timeout=60
    )


def only_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode != 0
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("raydp-ml: ")
    return line


def test_no_python(bare):
    line = only_line(check(bare))
    assert "Python 3.11 or newer" in line
    assert "no python3 on PATH" in line
    assert "install python3.11" in line


def test_old_python(bare):
    script(bare / "python3", "echo 3 9")
    line = only_line(check(bare))
    assert "python3 is 3.9" in line
    assert "install python3.11" in line


def test_new_python_wins_over_old(bare):
    script(bare / "python3", "echo 3 9")
    (bare / "python3.11").symlink_to(sys.executable)
    fake_java(bare / "java", "17.0.9")
    done = check(bare)
    assert (done.returncode, done.stdout, done.stderr) == (0, "python3.11\n", "")


def test_python_without_venv(bare):
    script(bare / "python3.12", 'case "$2" in *ensurepip*) exit 1;; *) echo 3 12;; esac')
    assert "install its venv module" in only_line(check(bare))


def test_no_java(bare):
    line = only_line(check(bare, PYTHON=sys.executable))
    assert "install a Java 17 or 21 runtime" in line


@pytest.mark.parametrize(("version", "said"), [("1.8.0_392", "8"), ("11.0.21", "11")])
def test_old_java(bare, version, said):
    fake_java(bare / "java", version)
    line = only_line(check(bare, PYTHON=sys.executable))
    assert f"does not run on Java {said} (found through PATH)" in line
    assert "install Java 17 or 21" in line


def test_java_home_wins_over_path(bare, tmp_path):
    fake_java(bare / "java", "17.0.9")
    fake_java(tmp_path / "old" / "bin" / "java", "11.0.21")
    line = only_line(check(bare, PYTHON=sys.executable, JAVA_HOME=str(tmp_path / "old")))
    assert "Java 11" in line
    assert "JAVA_HOME" in line

    fake_java(bare / "java", "11.0.21")
    fake_java(tmp_path / "new" / "bin" / "java", "21.0.2")
    assert check(bare, PYTHON=sys.executable, JAVA_HOME=str(tmp_path / "new")).returncode == 0


def test_java_home_without_java(bare, tmp_path):
    fake_java(bare / "java", "17.0.9")
    line = only_line(check(bare, PYTHON=sys.executable, JAVA_HOME=str(tmp_path / "nowhere")))
    assert "JAVA_HOME" in line
    assert "17 or 21" in line


def test_java_too_new_for_spark_3_5_only(bare):
    fake_java(bare / "java", "25.0.1")
    assert "install Java 17 or 21" in only_line(check(bare, spark="3.5.9", PYTHON=sys.executable))
    assert check(bare, spark="4.3.0", PYTHON=sys.executable).returncode == 0


@pytest.fixture
def house(tmp_path) -> Path:
    """What make needs, without an environment."""
    for file in (ROOT / "Makefile", ROOT / "pyproject.toml", ROOT / "setup.cfg", *ROOT.glob("constraints*.txt")):
        shutil.copy(file, tmp_path)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    shutil.copytree(ROOT / "raydp_ml", tmp_path / "raydp_ml", symlinks=True, ignore=shutil.ignore_patterns("jars"))
    return tmp_path


def make(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments], capture_output=True, text=True, cwd=folder, env=os.environ | environment, check=False
    )


def installs(dry_run: subprocess.CompletedProcess[str]) -> list[str]:
    """The extras of each install step that make would run."""
    assert dry_run.returncode == 0, dry_run.stderr
    return [line.split("'")[1] for line in dry_run.stdout.splitlines() if "scripts/install.sh" in line]


def test_make_demo_stops_on_a_machine_without_java(house, tmp_path):
    done = make(house, "demo", PYTHON=sys.executable, JAVA_HOME=str(tmp_path / "nowhere"))
    assert done.returncode != 0
    ours = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("make")]
    assert len(ours) == 1
    assert "17 or 21" in ours[0]
    assert not (house / ".venv").exists()


def test_demo_installs_no_tensorflow(house):
    (extras,) = installs(make(house, "-n", "demo"))
    assert "xgboost-cpu" in extras
    assert "tensorflow" not in extras


def test_each_command_installs_once(house):
    (house / ".venv").mkdir()
    (house / ".venv" / ".demo").touch()
    assert installs(make(house, "-n", "demo")) == []
    (extras,) = installs(make(house, "-n", "test"))
    assert "tensorflow-cpu" in extras.split(",")

    (house / ".venv" / ".test").touch()
    assert installs(make(house, "-n", "test")) == []
    later = time.time() + 10
    os.utime(house / "constraints.txt", (later, later))
    assert len(installs(make(house, "-n", "demo"))) == 1


def test_ci_runs_make_test_and_passes_its_exit_code(house):
    shutil.copytree(ROOT / ".ci", house / ".ci")
    (house / "Makefile").write_text("test:\n\t@echo $@ ran; cat; exit 3\n")
    # These tests run below make themselves, and a make below another one says where it is.
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        [str(house / ".ci" / "run")], capture_output=True, text=True, check=False, timeout=60, env=outside
    )
    assert done.returncode == 2  # what make answers when a recipe fails
    assert done.stdout == "test ran\n"
