"""What tasks of Spark find in their executor's heap, by Spark's own metrics in its event log."""

import json
from pathlib import Path


def settings(folder, young="64m"):
    """Of a session whose event log lies in a folder, which has to exist. ``young`` bounds the garbage that is counted, too."""
    return {
        "spark.executor.extraJavaOptions": f"-Xmn{young}",
        "spark.executor.metrics.pollingInterval": "10ms",
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": f"file://{folder}",
        "spark.eventLog.compress": "false",
    }


def heap_peak(spark, folder, work):
    """Bytes of the highest peak while the tasks of some work ran, above what was in use before."""
    spark.range(0, 200, 1, 8).selectExpr("java_method('java.lang.System', 'gc')").collect()
    base = _peak(spark, folder, lambda: spark.range(0, 200, 1, 8).selectExpr("count(1)").collect())
    return _peak(spark, folder, work) - base


def _peak(spark, folder, work):
    bus = spark.sparkContext._jsc.sc().listenerBus()
    bus.waitUntilEmpty()
    before = len(_peaks(folder))
    work()
    # The log is written to its file when a job ends.
    spark.range(1).count()
    bus.waitUntilEmpty()
    return max(_peaks(folder)[before:-1])


def _peaks(folder):
    """Of all tasks until now."""
    lines = [
        line
        for file in sorted(Path(folder).rglob("*"))
        if file.is_file() and not file.name.startswith((".", "appstatus"))
        for line in file.read_text().splitlines()
        if line.startswith('{"Event":"SparkListenerTaskEnd"')
    ]
    return [json.loads(line)["Task Executor Metrics"]["JVMHeapMemory"] for line in lines]
