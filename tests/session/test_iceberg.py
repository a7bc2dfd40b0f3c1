"""Tables of Iceberg, whose jars PyPI has for Spark 3.5: `make test-spark35` installs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import raydp_ml
from raydp_ml.cluster.jar import spark_home

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

jars = pytest.importorskip("snowpark_connect_deps_iceberg", reason="make test-spark35 installs Iceberg's jars")
pytestmark = [
    pytest.mark.spark35,
    pytest.mark.skipif(spark_home().line != "3.5", reason="the jars on PyPI are those for Spark 3.5"),
]


@pytest.fixture(scope="module")
def tables(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    settings = {
        "spark.ui.enabled": "false",
        "spark.jars": str(
            next(Path(jars.get_jars_dir()).glob(f"iceberg-spark-runtime-3.5_{spark_home().scala}-*.jar"))
        ),
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.sql.catalog.lake": "org.apache.iceberg.spark.SparkCatalog",
        "spark.sql.catalog.lake.type": "hadoop",
        "spark.sql.catalog.lake.warehouse": str(tmp_path_factory.mktemp("lake")),
    }
    yield raydp_ml.init_spark("iceberg", 1, 1, "512m", configs=settings)
    raydp_ml.stop_spark()


def test_a_table_is_written_changed_and_crosses_to_ray(tables: SparkSession) -> None:
    rows = raydp_ml.to_spark(raydp_ml.from_spark(tables.range(0, 1000, 1, 4).selectExpr("id", "id * 0.5D AS x")))
    rows.writeTo("lake.db.rows").create()
    tables.range(500, 1500).selectExpr("id", "0D AS x").createOrReplaceTempView("changes")
    tables.sql(
        "MERGE INTO lake.db.rows r USING changes c ON r.id = c.id "
        "WHEN MATCHED THEN UPDATE SET x = c.x WHEN NOT MATCHED THEN INSERT *"
    )
    now = raydp_ml.from_spark(tables.table("lake.db.rows"))
    assert (now.count(), now.sum("x")) == (1500, 0.5 * sum(range(500)))
    first = tables.sql("SELECT snapshot_id FROM lake.db.rows.snapshots ORDER BY committed_at").first()[0]
    before = raydp_ml.from_spark(tables.read.option("snapshot-id", first).table("lake.db.rows"))
    assert (before.count(), before.sum("x")) == (1000, 0.5 * sum(range(1000)))
