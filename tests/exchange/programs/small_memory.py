"""A small object store and frames that are dropped one after the other; what conversions take of an executor's heap."""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import ray
import ray.data
from ray._private.internal_api import get_memory_info_reply, get_state_from_address

import raydp_ml

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "candidates"))
from heap import heap_peak, settings

# 12 MB each, 240 MB in all, which is more than the 80 % of the store at which Ray spills. The store has room for what two
# cores fill in the five seconds that lie between two collections.
STORE, FRAMES, ROWS = 250_000_000, 20, 1_500_000


def store_stats():
    return get_memory_info_reply(get_state_from_address(ray.get_runtime_context().gcs_address)).store_stats


# One block of 50 MB each.
WIDE = {
    "strings": ["repeat(md5(string(id)), 6) as a", "repeat(md5(string(id)), 6) as b"],
    "nested": ["transform(sequence(0, 9), i -> named_struct('k', i, 'v', repeat('v', 25))) as a"],
}


def heap_of(spark, events, expressions):
    """The peak of the executor's heap in a conversion of 125,000 rows, in bytes: above what it was before; and of its block."""
    frame = spark.range(0, 125_000, 1, 1).selectExpr(*expressions)
    datasets = []
    peak = heap_peak(spark, events, lambda: datasets.append(raydp_ml.from_spark(frame)))
    return [peak, datasets[0].size_bytes()]


def main():
    folder = tempfile.mkdtemp(prefix="rdp_", dir="/tmp")
    ray.init(
        num_cpus=3, object_store_memory=STORE, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
        _temp_dir=folder,
    )  # fmt: skip
    ray.data.DataContext.get_current().enable_progress_bars = False
    told = {"store": STORE, "written": 8 * FRAMES * ROWS, "sums": [], "most": 0}
    try:
        quiet = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.log.level": "ERROR"}
        # A heap with room for all of this: its JVM has no reason of its own to collect.
        heap = {"spark.driver.memory": "4g", "spark.driver.extraJavaOptions": "-Xmn3g"}
        events = tempfile.mkdtemp(dir=folder)
        spark = raydp_ml.init_spark("dropped", 1, 2, "512m", configs={**quiet, **heap, **settings(events, young="24m")})
        beans = list(spark._jvm.java.lang.management.ManagementFactory.getGarbageCollectorMXBeans())
        before = sum(bean.getCollectionCount() for bean in beans)
        began = time.monotonic()
        for number in range(FRAMES):
            dataset = raydp_ml.from_spark(spark.range(0, ROWS, 1, 2).selectExpr(f"id + {number} AS id"))
            # Derived frames hold the blocks too.
            told["sums"].append(raydp_ml.to_spark(dataset).filter("id >= 0").selectExpr("sum(id)").first()[0])
            told["most"] = max(told["most"], store_stats().object_store_bytes_used)
        told["seconds"] = time.monotonic() - began
        told["collections"] = sum(bean.getCollectionCount() for bean in beans) - before
        told["spilled"] = store_stats().spilled_bytes_total
        told["heap"] = {name: heap_of(spark, events, expression) for name, expression in WIDE.items()}
    finally:
        raydp_ml.stop_spark()
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    print("RESULT " + json.dumps(told))


if __name__ == "__main__":
    sys.exit(main())
