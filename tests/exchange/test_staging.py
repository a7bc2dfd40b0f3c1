"""A staging folder in memory without room: partitions go over the disk, and whoever converts is told."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import raydp_ml


@pytest.fixture
def tiny_memory(tmp_path: Path) -> Iterator[Path]:
    """A file system of 70 MB in memory."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=70m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    yield tmp_path
    raydp_ml.stop_spark()
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_blocks_that_do_not_fit_go_over_the_disk_both_ways(ray_cluster: None, tiny_memory: Path) -> None:
    settings = {"spark.ui.enabled": "false", "spark.ray.staging.dir": str(tiny_memory)}
    spark = raydp_ml.init_spark("tiny-memory", 1, 1, "512m", configs=settings)
    small = raydp_ml.from_spark(spark.range(0, 1000, 1, 1))
    assert small.sum("id") == sum(range(1000))
    frame = spark.range(0, 2_000_000, 1, 2).selectExpr("id", "id * 0.5D AS x")
    with pytest.warns(UserWarning, match="2 of 2 blocks went over the disk"):
        dataset = raydp_ml.from_spark(frame)
    assert dataset.sum("x") == 0.5 * sum(range(2_000_000))
    assert raydp_ml.to_spark(dataset).selectExpr("sum(x)").first()[0] == 0.5 * sum(range(2_000_000))
