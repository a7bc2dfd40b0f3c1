"""Nodes of different sizes, and nodes that lack what the driver's has."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from raydp_ml.cluster import class_archive, jar_cache
from raydp_ml.cluster.jar import ensure_jar, spark_home
from raydp_ml.cluster.node_files import DriverFiles, fetch_archive, jar_here


@pytest.mark.slow
def test_five_nodes_of_different_sizes_run_the_whole_way(run_program: Callable[[Path], dict]) -> None:
    told = run_program(Path(__file__).parent / "programs" / "uneven_cluster.py")
    assert told["nodes"] == ["four", "one", "two"]  # one each, and none where no executor fits
    assert told["jars"] == {name: f"{name}/cache/raydp-ml/jars" for name in told["nodes"]}
    assert told["score"] > 0.9 and told["again"] == told["score"]
    assert told["best"] == 3 and told["scores"][1] > told["scores"][0] > 0.6
    assert told["predicted"] == 2000
    assert told["rows"] == [2000, told["late"]]
    assert told["left"] == []


def test_a_node_that_lacks_jar_and_archive_gets_the_drivers(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, jar = spark_home(), ensure_jar()
    files = DriverFiles.of(home, jar, ray.get_runtime_context().get_node_id())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    here = jar_here(files, tmp_path)
    assert here == jar_cache.folder() / jar.name
    assert here.read_bytes() == jar.read_bytes() and here.stat().st_mtime_ns == jar.stat().st_mtime_ns
    assert jar_here(files, tmp_path) == here

    # As if the driver's node had the same paths; more than one message.
    archive = class_archive.archive_path(home, here)
    content = os.urandom(1 << 20) * 20
    (tmp_path / archive.name).write_bytes(content)
    fits = replace(files, archive=tmp_path / archive.name)
    assert fetch_archive(fits, home, here)
    assert archive.read_bytes() == content
    assert not fetch_archive(fits, home, here)  # It is there.
    archive.unlink()
    # For another Java or another Spark, which its name would say.
    (tmp_path / "other.jsa").write_bytes(content)
    assert not fetch_archive(replace(files, archive=tmp_path / "other.jsa"), home, here)
    # One that has gone from the driver's node meanwhile.
    (tmp_path / archive.name).unlink()
    assert not fetch_archive(fits, home, here)
    assert sorted(path.suffix for path in jar_cache.folder().iterdir()) == [".jar", ".lock"]


def test_a_node_whose_cache_is_closed_keeps_the_jar_with_the_executor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = DriverFiles("raydp-ml-spark-4.3_2.13-none.jar", 0, b"jar", None, "node")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert jar_here(files, tmp_path).read_bytes() == b"jar"
    assert jar_here(files, tmp_path).parent == tmp_path
