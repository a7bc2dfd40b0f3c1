"""More than 2 GiB in one partition and in one block, nearly all of it in one column, both ways and with an executor of 1 GB."""

import json
import shutil
import sys
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

import raydp_ml
from raydp_ml.exchange.blocks import BlockInfo
from raydp_ml.exchange.ray_seam import blocks_of, dataset_from_blocks

ROWS, WIDTH = 2_400_000, 1000


@ray.remote(num_cpus=0)
def measure(table):
    """Rows, sum of the ids, bytes of the strings, bytes of all."""
    width = pc.sum(pc.binary_length(table["wide"])).as_py()
    return table.num_rows, pc.sum(table["id"]).as_py(), width, table.nbytes


@ray.remote(num_cpus=0, num_returns=2)
def big_block():
    letters = np.repeat((np.arange(ROWS) % 26 + 97).astype(np.uint8), WIDTH)
    offsets = np.arange(ROWS + 1) * WIDTH
    wide = pa.LargeStringArray.from_buffers(ROWS, pa.py_buffer(offsets), pa.py_buffer(letters))
    table = pa.table({"id": np.arange(ROWS), "wide": wide})
    return table, (table.num_rows, table.nbytes)


def main():
    folder = tempfile.mkdtemp(prefix="rdp_", dir="/tmp")
    ray.init(
        num_cpus=3,
        object_store_memory=4 << 30,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _temp_dir=folder,
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    told = {"target": ray.data.DataContext.get_current().target_max_block_size}
    try:
        quiet = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.log.level": "ERROR"}
        spark = raydp_ml.init_spark("big-partition", 1, 1, "1g", configs=quiet)
        frame = spark.range(0, ROWS, 1, 1).selectExpr("id", f"repeat(char(97 + id % 26), {WIDTH}) AS wide")
        dataset = raydp_ml.from_spark(frame)
        refs = [ref for bundle in dataset.iter_internal_ref_bundles() for ref, _ in blocks_of(bundle)]
        rows, ids, width, sizes = zip(*ray.get([measure.remote(ref) for ref in refs]), strict=True)
        told["there"] = [sum(rows), sum(ids), sum(width)]
        told["blocks"] = sizes
        back = raydp_ml.to_spark(dataset)
        told["back"] = list(back.selectExpr("count(1)", "sum(id)", "sum(length(wide))").first())
        raydp_ml.stop_spark()

        # The other way as one block, whose offsets need 64 bits.
        spark = raydp_ml.init_spark("big-block", 1, 1, "1g", configs=quiet)
        block, info = big_block.remote()
        schema = pa.schema([("id", pa.int64()), ("wide", pa.large_string())])
        whole = raydp_ml.to_spark(dataset_from_blocks([block], [BlockInfo(*ray.get(info))], schema))
        told["from_one_block"] = list(whole.selectExpr("count(1)", "sum(id)", "sum(length(wide))").first())
        told["letters"] = [
            row.wide for row in whole.where(f"id >= {ROWS - 3}").selectExpr("left(wide, 3) AS wide").collect()
        ]
    finally:
        raydp_ml.stop_spark()
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    print("RESULT " + json.dumps(told))


if __name__ == "__main__":
    sys.exit(main())
