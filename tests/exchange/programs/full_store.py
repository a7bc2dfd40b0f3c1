"""More rows than the object store holds: from_spark has Ray spill them, read_spark needs no spilling, epoch after epoch."""

import json
import shutil
import sys
import tempfile

import pyarrow.compute as pc
import ray
import ray.data
from ray._private.internal_api import get_memory_info_reply, get_state_from_address

import raydp_ml

STORE = 150 << 20
ROWS, PARTITIONS = 400_000, 40


def store_stats():
    return get_memory_info_reply(get_state_from_address(ray.get_runtime_context().gcs_address)).store_stats


def sums(batches):
    """Number of rows, sum of the ids, bytes of the strings."""
    rows = ids = width = 0
    most = 0
    for batch in batches:
        rows += batch.num_rows
        ids += pc.sum(batch["id"]).as_py()
        width += pc.sum(pc.binary_length(batch["wide"])).as_py()
        most = max(most, store_stats().object_store_bytes_used)
    return [rows, ids, width], most


def main():
    folder = tempfile.mkdtemp(prefix="rdp_", dir="/tmp")
    ray.init(
        num_cpus=3,
        object_store_memory=STORE,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _temp_dir=folder,
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    told = {"store": STORE}
    try:
        quiet = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.log.level": "ERROR"}
        spark = raydp_ml.init_spark("full-store", 1, 2, "512m", configs=quiet)
        frame = spark.range(0, ROWS, 1, PARTITIONS).selectExpr("id", "repeat(char(97 + id % 26), 1000) AS wide")

        stream = raydp_ml.read_spark(frame)
        epochs = [sums(stream.iter_batches(batch_size=5000, batch_format="pyarrow")) for _ in range(2)]
        told["epochs"] = [told_of for told_of, _ in epochs]
        told["most"] = max(most for _, most in epochs)
        told["spilled_by_read_spark"] = store_stats().spilled_bytes_total

        dataset = raydp_ml.from_spark(frame)
        told["bytes"] = dataset.size_bytes()
        told["spilled_by_from_spark"] = store_stats().spilled_bytes_total
        told["all"], _ = sums(dataset.iter_batches(batch_size=5000, batch_format="pyarrow"))
        back = raydp_ml.to_spark(dataset)
        told["back"] = list(back.selectExpr("count(1)", "sum(id)", "sum(length(wide))").first())
    finally:
        raydp_ml.stop_spark()
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    print("RESULT " + json.dumps(told))


if __name__ == "__main__":
    sys.exit(main())
