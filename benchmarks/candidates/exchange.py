"""The exchange's measures, each on a frame that Spark holds in its cache."""

import os
import shutil
import sys
import tempfile
import time

from answering import peer_settings, serve, start_ray

NAME, ROWS = sys.argv[1], int(sys.argv[2])
MEMORY = "5g"
COLUMNS = [f"rand({i}) as d{i}" for i in range(10)] + ["cast(id % 1000 as int) as i", "concat('s', id % 1000) as s"]
STATE = {}


def cpu_of_everything():
    """CPU seconds of this process and all below it, also of those that Ray started."""
    ticks = os.sysconf("SC_CLK_TCK")
    children, spent = {}, {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as stat:
                    fields = stat.read().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(int(fields[1]), []).append(int(entry))
            # Own time and that of children which ended and were waited for.
            spent[int(entry)] = sum(map(int, fields[11:15])) / ticks
    total, queue = 0.0, [os.getpid()]
    while queue:
        pid = queue.pop()
        total += spent.get(pid, 0.0)
        queue += children.get(pid, [])
    return total


def measured(work):
    def run():
        cpu, began = cpu_of_everything(), time.perf_counter()
        work()
        return {"wall_s": time.perf_counter() - began, "cpu_s": cpu_of_everything() - cpu}

    return run


def prepare():
    if NAME == "files":
        from pyspark.sql import SparkSession

        builder = SparkSession.builder.master("local[2]").config("spark.driver.memory", MEMORY)
        builder = builder.config("spark.driver.maxResultSize", "0").config(
            "spark.sql.execution.arrow.pyspark.enabled", "true"
        )
        STATE["spark"] = builder.config("spark.ui.enabled", "false").getOrCreate()
        start_ray(object_store=4 << 30)
    else:
        start_ray(object_store=4 << 30)
        if NAME == "raydp":
            import raydp as package

            settings = peer_settings()
        else:
            import raydp_ml as package

            settings = {"spark.ui.enabled": "false"}
        settings["spark.memory.fraction"] = "0.8"
        STATE["spark"] = package.init_spark("bench", 2, 1, MEMORY, configs=settings)
    frame = STATE["spark"].range(0, ROWS, 1, 16).selectExpr(*COLUMNS).persist()
    frame.count()
    STATE["frame"] = frame
    return {}


def from_spark():
    import ray.data

    STATE.pop("dataset", None)
    STATE["dataset"] = ray.data.from_spark(STATE["frame"])


def read_numpy():
    import numpy as np
    import ray

    total = 0.0
    for ref in STATE["dataset"].to_arrow_refs():
        table = ray.get(ref)
        for name in table.column_names[:11]:
            column = table[name]
            values = column.chunk(0).to_numpy(zero_copy_only=False) if column.num_chunks == 1 else column.to_numpy()
            total += float(values[0])
    if not np.isfinite(total):
        raise RuntimeError("no numbers")


def to_spark_count():
    if STATE["dataset"].to_spark(STATE["spark"]).count() != ROWS:
        raise RuntimeError("wrong count")


def to_spark_sum():
    sums = [f"sum(d{i})" for i in range(10)] + ["sum(i)", "max(s)"]
    STATE["dataset"].to_spark(STATE["spark"]).selectExpr(*sums).first()


def small_blocks():
    import pyarrow as pa
    import ray.data

    tables = [pa.table({"a": list(range(i * 5, i * 5 + 5))}) for i in range(200)]
    if ray.data.from_arrow(tables).to_spark(STATE["spark"]).count() != 1000:
        raise RuntimeError("wrong count")


def floor():
    """Spark only reads the rows."""
    STATE["frame"].write.format("noop").mode("overwrite").save()


def parquet():
    import ray.data

    folder = tempfile.mkdtemp(prefix="rdb_", dir="/tmp")
    try:
        STATE["frame"].write.mode("overwrite").parquet(folder + "/rows")
        ray.data.read_parquet(folder + "/rows").materialize()
    finally:
        shutil.rmtree(folder)


def to_pandas():
    import ray.data

    ray.data.from_pandas(STATE["frame"].toPandas())


def to_arrow():
    STATE["frame"].toArrow()


WORKS = (from_spark, read_numpy, to_spark_count, to_spark_sum, small_blocks, floor, parquet, to_pandas, to_arrow)
handlers = {work.__name__: measured(work) for work in WORKS}
serve({"prepare": prepare, **handlers})
