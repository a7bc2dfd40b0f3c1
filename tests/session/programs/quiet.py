"""A session in a process and a Ray of its own: whatever the test reads beside RESULT was printed at the start."""

import contextlib
import json
import sys
from pathlib import Path

from py4j.protocol import Py4JJavaError

import raydp_ml

events, log4j = sys.argv[1:]
settings = {
    "spark.ui.showConsoleProgress": "false",
    "spark.ui.enabled": "false",
    "spark.eventLog.enabled": "true",
    "spark.eventLog.dir": events,
    "spark.ray.log4j.config.file.name": log4j,
}
with raydp_ml.init_spark("quiet", 1, 1, "512m", configs=settings) as spark:
    count = spark.range(100).count()
    # Looks for a native library for linear algebra, as every fit of Spark ML does.
    jvm = spark.sparkContext._jvm
    with contextlib.suppress(Py4JJavaError):
        jvm.dev.ludovic.netlib.blas.NativeBLAS.getInstance()
    info = raydp_ml.spark_info()
    (executor,) = info["executors"].values()
    result = {
        "count": count,
        "app": info["app_id"],
        "name": Path(executor["log"]).name,
        "folder": Path(executor["log"]).parent.name,
        "log": Path(executor["log"]).read_text(),
        "level": jvm.org.apache.logging.log4j.LogManager.getRootLogger().getLevel().toString(),
    }
print("RESULT " + json.dumps(result))
