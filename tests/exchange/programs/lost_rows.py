"""A node dies, and blocks of plans that need not give the same rows twice are read again: the rows of before, or an error.

Blocks are compared by fingerprints that are taken where the block lies: a copy on another node would survive the loss.
"""

import hashlib
import json
import shutil
import sys
import tempfile
from collections import Counter

import pyarrow as pa
import ray
import ray.data
from pyspark.sql import Window
from pyspark.sql import functions as F
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import raydp_ml
from raydp_ml.exchange.ray_seam import blocks_of

ROWS, PARTITIONS = 100_000, 4
FAST_LOSS = {"health_check_failure_threshold": 5, "health_check_period_ms": 1000, "health_check_timeout_ms": 3000}


def frames(spark):
    """Name, frame and target block size of each case."""
    plain = spark.range(0, ROWS, 1, PARTITIONS).selectExpr("id", "id * 2.5D AS x", "concat('s', id % 7) AS s")
    shuffled = plain.repartition(PARTITIONS)
    ties = Window.partitionBy(F.expr("id % 5000")).orderBy(F.expr("id % 3"))
    whole = 128 << 20
    return {
        "plain": (plain, whole),
        "repartition": (shuffled, whole),
        # The cuts between the blocks of a partition depend on the order in which it was fetched.
        "repartition in several blocks": (shuffled, 1 << 20),
        "floating sums": (shuffled.groupBy(F.expr("id % 40000").alias("k")).agg(F.sum(F.expr("1 / (x + 0.1)"))), whole),
        "dropDuplicates": (shuffled.withColumn("k", F.expr("id % 40000")).dropDuplicates(["k"]), whole),
        "limit": (shuffled.limit(ROWS // 2).repartition(PARTITIONS), whole),
        "ties": (plain.withColumn("place", F.row_number().over(ties)), whole),
        "sample": (shuffled.sample(0.5), whole),
        "random function": (plain.mapInPandas(reroll, "id long, x double, s string"), whole),
    }


def reroll(batches):
    import os

    for batch in batches:
        batch["s"] = [os.urandom(8).hex() for _ in range(len(batch))]
        yield batch


@ray.remote(num_cpus=0)
def fingerprint(table):
    """Of the rows as a multiset, with every bit of every value."""
    ordered = table.sort_by([(name, "ascending") for name in table.column_names]).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, ordered.schema) as writer:
        writer.write_table(ordered)
    return hashlib.sha256(sink.getvalue()).hexdigest()


def convert(cases):
    refs = {}
    context = ray.data.DataContext.get_current()
    for name, (frame, block_bytes) in cases.items():
        context.target_max_block_size = block_bytes
        # Wide rows: partitions below 1 MB would share a block.
        dataset = raydp_ml.from_spark(frame.withColumn("wide", F.lit("w" * 100)))
        refs[name] = [ref for bundle in dataset.iter_internal_ref_bundles() for ref, _ in blocks_of(bundle)]
    return refs


def places(refs):
    locations = ray.experimental.get_object_locations(refs)
    return [locations[ref]["node_ids"] for ref in refs]


def fingerprints(refs):
    # A block below 100 KB lies with its owner and not on a node.
    where = [NodeAffinitySchedulingStrategy(nodes[0], soft=False) if nodes else "DEFAULT" for nodes in places(refs)]
    tasks = [fingerprint.options(scheduling_strategy=place) for place in where]
    return ray.get([task.remote(ref) for task, ref in zip(tasks, refs, strict=True)])


def verdict(again, before):
    try:
        return "same" if ray.get(again, timeout=180) == before else "other rows"
    except raydp_ml.BlockLostError as error:
        return "refused" if "other rows" in str(error) else f"BlockLostError: {error}"


def main():
    folder = tempfile.mkdtemp(prefix="rdp_", dir="/tmp")
    node = {"num_cpus": 1, "object_store_memory": 300 << 20}
    head = {**node, "include_dashboard": False, "_system_config": FAST_LOSS, "temp_dir": folder}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    second = cluster.add_node(**node)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    told = {}
    try:
        quiet = {
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.log.level": "ERROR",
            "spark.sql.shuffle.partitions": PARTITIONS,
            # It would make one partition of a few, and leave nothing on the other node.
            "spark.sql.adaptive.coalescePartitions.enabled": "false",
        }
        spark = raydp_ml.init_spark("lost-rows", 2, 1, "512m", configs=quiet)
        refs = convert(frames(spark))
        before = {name: fingerprints(blocks) for name, blocks in refs.items()}
        told["lost"] = {name: places(blocks).count([second.node_id]) for name, blocks in refs.items()}
        cluster.remove_node(second, allow_graceful=False)
        cluster.add_node(**node)
        again = {name: [fingerprint.remote(ref) for ref in blocks] for name, blocks in refs.items()}
        told["read"] = {name: Counter(map(verdict, blocks, before[name])) for name, blocks in again.items()}
    finally:
        raydp_ml.stop_spark()
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    print("RESULT " + json.dumps(told))


if __name__ == "__main__":
    sys.exit(main())
