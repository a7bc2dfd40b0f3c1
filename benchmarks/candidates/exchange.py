"""The exchange's measures, each on a frame that Spark holds in its cache or computes on the way."""

import atexit
import gc
import shutil
import sys
import tempfile
import time

from answering import peer_settings, serve, start_ray
from exchange_frames import consumed_by_spark, frame_of, query_of
from heap import heap_peak
from heap import settings as heap_settings
from meter import MB, Meter, collect_garbage, store_used

NAME = sys.argv[1]
STATE = {}
METER = Meter()


def start(store_gb, memory, heaps=False):
    """Ray, and Spark with two executors of one core, or with two local cores; ``heaps``: for :func:`heap`."""
    start_ray(object_store=int(store_gb * 2**30))
    if NAME == "files":
        from pyspark.sql import SparkSession

        builder = SparkSession.builder.master("local[2]").config("spark.driver.memory", memory)
        builder = builder.config("spark.driver.maxResultSize", "0").config("spark.ui.enabled", "false")
        STATE["spark"] = builder.config("spark.sql.execution.arrow.pyspark.enabled", "true").getOrCreate()
        return
    if NAME == "raydp":
        import raydp as package

        settings = peer_settings()
    else:
        import raydp_ml as package

        settings = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"}
        if heaps:
            STATE["events"] = tempfile.mkdtemp(prefix="rdb_", dir="/tmp")
            atexit.register(shutil.rmtree, STATE["events"], ignore_errors=True)
            settings |= heap_settings(STATE["events"])
    STATE["spark"] = package.init_spark("bench", 2, 1, memory, configs={**settings, "spark.memory.fraction": "0.8"})


def hold(schema, rows, partitions=16, cached=True):
    """Make this the frame that the measures use."""
    if "frame" in STATE:
        STATE.pop("frame").unpersist()
    frame = frame_of(STATE["spark"], schema, rows, partitions)
    if cached:
        frame = frame.persist()
        frame.count()
    STATE.update(frame=frame, schema=schema, rows=rows, level=store_used())


def make_small_blocks():
    import pyarrow as pa
    import ray.data

    tables = [pa.table({"a": list(range(i * 5, i * 5 + 5))}) for i in range(200)]
    STATE["small"] = ray.data.from_arrow(tables).materialize()
    time.sleep(0.5)  # Ray tells late what its store holds
    STATE["level"] = store_used()


def release(wait=20):
    """Drop the Dataset and what was made of it, and wait for the store: the next measure finds the memory that this one found."""
    STATE.pop("dataset", None)
    gc.collect()
    if NAME == "raydp":
        release_of_peer()
    else:
        # A job, and a collection: the driver's JVM knows of a frame until then.
        STATE["spark"].range(1).count()
        STATE["spark"]._jvm.System.gc()
    end = time.monotonic() + wait
    while True:
        # Py4J tells the JVM up to a second late what Python has dropped, and Ray what its store holds.
        time.sleep(1)
        collect_garbage()
        time.sleep(0.5)
        if store_used() <= STATE["level"] or time.monotonic() > end:
            return


def release_of_peer():
    import ray

    from raydp.spark import release_spark_recoverable

    release_spark_recoverable(STATE["frame"])
    # to_spark gives its blocks to this actor, which has no way to let them go.
    holder = ray.get_actor("bench_SPARK_MASTER")
    ray.get(holder.__ray_call__.remote(lambda master: master._objects.clear()))


def from_spark():
    import ray.data

    STATE.pop("dataset", None)
    STATE["dataset"] = ray.data.from_spark(STATE["frame"])


def sparse_matrix():
    """Sparse vectors as scipy's matrices."""
    import ray

    import raydp_ml
    from raydp_ml.exchange.sparse import to_csr

    STATE.pop("dataset", None)
    STATE["dataset"] = raydp_ml.from_spark(STATE["frame"], vectors="sparse")
    matrices = [to_csr(table["v"]) for table in ray.get(STATE["dataset"].to_arrow_refs())]
    expect(sum(matrix.shape[0] for matrix in matrices), STATE["rows"])


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
    expect(STATE["dataset"].to_spark(STATE["spark"]).count(), STATE["rows"])


def to_spark_sum():
    STATE["dataset"].to_spark(STATE["spark"]).selectExpr(*query_of(STATE["schema"])).first()


def cached_sum():
    """Spark consumes its own cached frame with the query of to_spark_sum."""
    consumed_by_spark(STATE["frame"], STATE["schema"]).first()


def heap():
    """The highest peak of an executor's heap during from_spark, above what it holds of the cache."""
    return {"peak_mb": heap_peak(STATE["spark"], STATE["events"], from_spark) / MB}


def small_blocks():
    expect(STATE["small"].to_spark(STATE["spark"]).count(), 1000)


def expect(count, rows):
    if count != rows:
        raise RuntimeError(f"{count} rows instead of {rows}")


def floor():
    """Spark only reads the rows."""
    STATE["frame"].write.format("noop").mode("overwrite").save()


def parquet():
    import ray.data

    folder = tempfile.mkdtemp(prefix="rdb_", dir="/tmp")
    try:
        STATE["frame"].write.mode("overwrite").parquet(folder + "/rows")
        STATE["dataset"] = ray.data.read_parquet(folder + "/rows").materialize()
    finally:
        shutil.rmtree(folder)


def to_pandas():
    import ray.data

    STATE["dataset"] = ray.data.from_pandas(STATE["frame"].toPandas())


def to_arrow():
    STATE["frame"].toArrow()


def there_and_back(times):
    """Convert and convert back, and drop both."""
    for _ in range(times):
        from_spark()
        to_spark_sum()


def dropped_rounds(times):
    """What the store holds after rounds whose results were dropped."""
    before = store_used()
    told = METER.measure(lambda: there_and_back(times))
    began = time.perf_counter()
    release(wait=60)
    return {
        "wall_s": told["wall_s"],
        "store_peak_mb": told["store_mb"],
        "store_growth_mb": (store_used() - before) / MB,
        "waited_s": time.perf_counter() - began,
    }


def moving(times):
    """How the driver grows while much more is moved than it may hold."""
    before = METER.measure(lambda: None)

    def move():
        for _ in range(times):
            there_and_back(1)
            release()

    told = METER.measure(move)
    growth = {f"{what}_growth_mb": told[f"{what}_mb"] - before[f"{what}_mb"] for what in ("driver", "driver_jvm")}
    return {"wall_s": told["wall_s"], **growth}


def measured(work):
    return lambda: METER.measure(work)


STEPS = (start, hold, make_small_blocks, release)
WORKS = (
    from_spark, sparse_matrix, read_numpy, to_spark_count, to_spark_sum, cached_sum, small_blocks, floor, parquet,
    to_pandas, to_arrow,
)  # fmt: skip
handlers = {work.__name__: measured(work) for work in WORKS}
handlers |= {step.__name__: step for step in (*STEPS, dropped_rounds, moving, heap)}
serve(handlers)
