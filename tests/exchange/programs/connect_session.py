"""Frames of Spark Connect, whose server runs in a process of its own, become Ray Datasets."""

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


def table_of(dataset):
    return pa.concat_tables([t for t in ray.get(dataset.to_arrow_refs()) if t.num_rows])


def main():
    # PySpark would take the python3 of the PATH, which need not have pyarrow.
    os.environ["PYSPARK_PYTHON"] = sys.executable
    folder = tempfile.mkdtemp(prefix="rdp_", dir="/tmp")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR", _temp_dir=folder)
    ray.data.DataContext.get_current().enable_progress_bars = False
    spark = SparkSession.builder.remote("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    told = {}
    try:
        mixed = spark.range(0, 1000, 1, 3).selectExpr(
            "id", "id * 0.5D as x", "string(id) as s", "array(id, NULL) AS a", "CAST(id AS DECIMAL(20, 3)) AS d"
        )
        told["module"] = type(mixed).__module__
        arrow = mixed.toArrow()
        told["same_as_to_arrow"] = table_of(raydp_ml.from_spark(mixed)).cast(arrow.schema).equals(arrow)
        rows = table_of(raydp_ml.from_spark(mixed, fs_directory=os.path.join(folder, "shared"))).sort_by("id")
        told["folder_same"] = rows.cast(arrow.schema).equals(arrow)
        vectors = spark.createDataFrame([(1, Vectors.dense(1.0, 2.0)), (2, Vectors.dense(3.0, 4.0))], ["id", "v"])
        told["vectors"] = sorted(list(row["v"]) for row in raydp_ml.from_spark(vectors).take_all())
        try:
            raydp_ml.read_spark(mixed)
        except raydp_ml.InvalidValueError as error:
            told["read_spark"] = str(error)
        try:
            raydp_ml.to_spark(ray.data.range(3), spark)
        except raydp_ml.InvalidValueError as error:
            told["to_spark"] = str(error)
    finally:
        spark.stop()
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    print("RESULT " + json.dumps(told))


if __name__ == "__main__":
    sys.exit(main())
