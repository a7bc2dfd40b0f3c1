"""Finding Java and the jar."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from raydp_ml.cluster import jar, jar_cache, java
from raydp_ml.errors import MissingDependencyError, RaydpMLError


def fake_java(folder: Path, version: str) -> Path:
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2020-01-01' >&2\n")
    program.chmod(0o755)
    return program


def test_java_home_wins_over_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = fake_java(tmp_path / "home", "17.0.1")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert java.find_java("3.5.9") == str(program)


@pytest.mark.parametrize(
    ("version", "spark", "message"),
    [
        ("1.8.0_392", "4.3.0", "Spark 4.3.0 does not run on Java 8 .*install Java 17 or 21"),
        ("11.0.2", "4.3.0", "does not run on Java 11"),
        ("25", "4.0.5", "Spark 4.0.5 does not run on Java 25"),
    ],
)
def test_a_java_that_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, spark: str, message: str
) -> None:
    fake_java(tmp_path / "home", version)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    with pytest.raises(MissingDependencyError, match=message):
        java.find_java(spark)


def test_no_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="install a Java 17 or 21 runtime"):
        java.find_java()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="has no bin/java"):
        java.find_java()


def test_the_name_carries_line_and_sources() -> None:
    home = jar.spark_home()
    files = jar.sources()
    assert any(name.endswith("RayClusterManager.scala") for name in files)
    changed = files | {"scala/New.scala": b"class New"}
    assert jar.jar_name(home, jar.source_hash(files)) != jar.jar_name(home, jar.source_hash(changed))
    assert f"-spark-{home.line}_{home.scala}-" in jar.jar_name(home, "x")


def test_a_checkout_compiles_its_own_sources_whichever_is_installed(tmp_path: Path) -> None:
    scala = tmp_path / "jvm" / "src" / "main" / "scala"
    scala.mkdir(parents=True)
    (scala / "Other.scala").write_text("class Other")
    package = Path(jar.__file__).parents[1]
    shutil.copytree(package, tmp_path / "raydp_ml", ignore=shutil.ignore_patterns("jars", "__pycache__"))
    told = subprocess.run(
        [sys.executable, "-c", "from raydp_ml.cluster.jar import sources; print(list(sources()))"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == "['scala/Other.scala']"


def test_the_cached_jar_fits_and_is_found_again() -> None:
    path = jar.ensure_jar()
    assert jar.ensure_jar() == path
    with zipfile.ZipFile(path) as archive:
        assert f"spark.version={jar.spark_home().version}" in archive.read("raydp-ml-build.properties").decode()
        assert "META-INF/services/org.apache.spark.scheduler.ExternalClusterManager" in archive.namelist()


def test_a_failing_compiler_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    broken = {"scala/Broken.scala": b"class Broken extends Nothingness"}
    with pytest.raises(RaydpMLError, match="not found: type Nothingness"):
        jar.compile_jar(jar.spark_home(), tmp_path / "x.jar", broken)
    assert os.listdir(tmp_path) == []


def test_no_spark(tmp_path: Path) -> None:
    with pytest.raises(MissingDependencyError, match="holds no Spark"):
        jar.spark_home(tmp_path)


def test_the_cache_keeps_the_newest_jars_and_those_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = jar_cache.folder()
    folder.mkdir(parents=True)
    now, day = 1_700_000_000.0, 24 * 3600

    def make(name: str, used: float) -> Path:
        path = folder / name
        for each in [path, jar_cache.lock_of(path)] if path.suffix == ".jar" else [path]:
            each.write_text(name)
            os.utime(each, (used, used))
        return path

    jars = [make(f"raydp-ml-spark-4.3_2.13-{i}.jar", now - (2 + i) * day) for i in range(7)]
    other_line = make("raydp-ml-spark-3.5_2.12-0.jar", now - 90 * day)
    archives = [make(f"raydp-ml-spark-4.3_2.13-{i}-ab.jsa", now - (2 + i) * day) for i in range(7)]
    recent = make("raydp-ml-spark-4.3_2.13-3-ef.jsa", now - day / 2)
    # Its process uses one of the old ones.
    with open(jar_cache.lock_of(jars[5])) as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        removed = jar_cache.prune(now)
    assert set(removed) == {jars[4], jars[6], *archives[2:]}
    left = {path for path in folder.iterdir() if path.suffix != ".lock"}
    assert left == {*jars[:4], jars[5], other_line, *archives[:2], recent}
    assert {path for path in folder.iterdir() if path.suffix == ".lock"} == {
        jar_cache.lock_of(path) for path in left if path.suffix == ".jar"
    }
    said = capsys.readouterr().err
    assert all(path.name in said for path in removed)
    assert jars[5].name not in said
    assert jar_cache.prune(now) == [jars[5]], "nobody uses it any more"
    jar_cache.use(jars[3])
    assert jar_cache.prune(now + 90 * day) == [], "four jars and three archives are few"
