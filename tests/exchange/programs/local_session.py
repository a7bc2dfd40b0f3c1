"""Frames of a plain local[2] session become Ray Datasets: through the driver in pieces, and through a shared folder."""

import json
import os
import shutil
import sys
import tempfile

import pyarrow as pa
import ray
import ray.data
from pyspark.ml.linalg import Vectors
from pyspark.sql import SparkSession

import raydp_ml

COLUMNS = [
    "id", "id * 0.5D as x", "string(id) as s", "CAST(id AS DECIMAL(20, 3)) AS d", "timestamp_seconds(id) AS t",
    "date_from_unix_date(int(id % 9999)) AS day", "array(id, NULL) AS a", "named_struct('k', id, 'w', 'b') AS st",
    "map('m', id) AS m", "CASE WHEN id % 3 = 0 THEN NULL ELSE id END AS n",
]  # fmt: skip


def table_of(dataset):
    return pa.concat_tables([t for t in ray.get(dataset.to_arrow_refs()) if t.num_rows])


def crossed(spark, shared):
    """What frames of any other session do, and what they are told that they cannot."""
    told = {}
    mixed = spark.range(0, 1000, 1, 3).selectExpr(*COLUMNS)
    told["module"] = type(mixed).__module__
    arrow = mixed.toArrow()
    told["same_as_to_arrow"] = table_of(raydp_ml.from_spark(mixed)).cast(arrow.schema).equals(arrow)
    vectors = spark.createDataFrame([(1, Vectors.dense(1.0, 2.0)), (2, Vectors.dense(3.0, 4.0))], ["id", "v"])
    told["vectors"] = sorted(list(row["v"]) for row in raydp_ml.from_spark(vectors).take_all())
    empty = raydp_ml.from_spark(vectors.where("id > 5"), vector_sizes={"v": 2})
    schema = empty.schema().base_schema
    tensor = schema.field("v").type
    told["empty"] = [
        empty.count(),
        [f"id: {schema.field('id').type}", f"v: tensor of {tensor.value_type} {tensor.shape}"],
    ]
    rows = table_of(raydp_ml.from_spark(mixed, fs_directory=shared)).sort_by("id")
    told["folder_same"] = rows.cast(arrow.schema).equals(arrow)
    told["folder_left"] = os.listdir(shared)
    for name, ask in {
        "read_spark": lambda: raydp_ml.read_spark(mixed),
        "to_spark": lambda: raydp_ml.to_spark(ray.data.range(3), spark),
    }.items():
        try:
            ask()
        except raydp_ml.InvalidValueError as error:
            told[name] = str(error)
    return told


def in_pieces(spark):
    wide = spark.range(0, 3_000_000, 1, 3).selectExpr("id", "id * 0.5D as x", "repeat('abc', 20) AS s")
    dataset = raydp_ml.from_spark(wide)
    tables = ray.get(dataset.to_arrow_refs())
    return {
        "blocks": len(tables),
        "chunks": max(table["x"].num_chunks for table in tables),
        "sum": dataset.sum("x"),
        "in_order": table_of(dataset)["id"].to_pylist() == list(range(3_000_000)),
    }


def main(builder, *checks):
    # PySpark would take the python3 of the PATH, which need not have pyarrow.
    os.environ["PYSPARK_PYTHON"] = sys.executable
    folder = tempfile.mkdtemp(prefix="rdp_", dir="/tmp")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR", _temp_dir=folder)
    ray.data.DataContext.get_current().enable_progress_bars = False
    settings = {
        "spark.ui.enabled": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.ui.showConsoleProgress": "false",
    }
    spark = builder.config(map=settings).getOrCreate()
    try:
        told = crossed(spark, os.path.join(folder, "shared"))
        for check in checks:
            told |= check(spark)
    finally:
        spark.stop()
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    print("RESULT " + json.dumps(told))


if __name__ == "__main__":
    main(SparkSession.builder.master("local[2]"), in_pieces)
