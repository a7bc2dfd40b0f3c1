"""A program that calls init_spark, with sizes of its own and others that are submitted."""

import json
import os
import sys
from pathlib import Path

import raydp_ml

spark = raydp_ml.init_spark("from the code", num_executors=2, executor_cores=1, executor_memory="600m")
result = {
    "arguments": sys.argv[1:],
    "name": spark.sparkContext.appName,
    "id": spark.sparkContext.applicationId,
    "executors": len(raydp_ml.spark_info()["executors"]),
    "memory": spark.conf.get("spark.executor.memory"),
    "same": raydp_ml.init_spark("from the code", 2, 1, "600m") is spark,
    "rows": sorted(row["id"] for row in raydp_ml.from_spark(spark.range(3)).take_all()),
    "data": Path("data.txt").read_text(),
    "job": "RAY_JOB_ID" in os.environ or "RAY_ADDRESS" in os.environ,
}
print("RESULT " + json.dumps(result), flush=True)
raise RuntimeError("the program's own error")
