"""What a stage of Spark takes of an executor's heap, by Spark's own metrics (spark.executor.metrics.pollingInterval)."""

from py4j.protocol import Py4JJavaError


def heap_peak(spark, work):
    """Bytes of the highest peak in the stages of some work, above what was in use before."""
    spark.range(0, 200, 1, 8).selectExpr("java_method('java.lang.System', 'gc')").collect()
    base = _peaks(spark, lambda: spark.range(0, 200, 1, 8).selectExpr("count(1)").collect())
    return _peaks(spark, work) - base


def _peaks(spark, work):
    store = spark.sparkContext._jsc.sc().statusStore()
    stage = next(stage for stage in range(100_000) if _peak_of(store, stage) is None)
    work()
    spark.sparkContext._jsc.sc().listenerBus().waitUntilEmpty()
    found = []
    while (peak := _peak_of(store, stage)) is not None:
        found.append(peak)
        stage += 1
    return max(found)


def _peak_of(store, stage):
    try:
        return store.lastStageAttempt(stage).peakExecutorMetrics().get().getMetricValue("JVMHeapMemory")
    except Py4JJavaError:  # it has not run
        return None
