"""A program of Spark's own names, which knows nothing of raydp_ml until it converts a frame."""

import json
import os
import sys
from pathlib import Path

import shipped
from pyspark.sql import SparkSession

spark = SparkSession.builder.appName("from the code").config("spark.sql.shuffle.partitions", "3").getOrCreate()
context = spark.sparkContext

import raydp_ml  # noqa: E402


def command_lines() -> list[str]:
    """Arguments of this process and of its children, the driver JVM among them."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [part for pid in ["self", *children] for part in Path(f"/proc/{pid}/cmdline").read_text().split("\0")]


known = {key: spark.conf.get(key, None) for key in ("spark.from.flag", "spark.from.file", "spark.ui.enabled")}
result = {
    "arguments": sys.argv[1:],
    "name": context.appName,
    "partitions": spark.conf.get("spark.sql.shuffle.partitions"),
    "settings": known,
    "secret": [argument for argument in command_lines() if "s3cret" in argument],
    "sum": spark.range(100).selectExpr("sum(id)").head()[0],
    "twice": context.parallelize([1, 2], 2).map(lambda number: shipped.twice(number)).collect(),
    "rows": raydp_ml.from_spark(spark.range(10)).take_all(),
    "executors": len(raydp_ml.spark_info()["executors"]),
    "again": raydp_ml.init_spark() is spark,
}
print("RESULT " + json.dumps(result), flush=True)
spark.stop()
sys.exit(3)
