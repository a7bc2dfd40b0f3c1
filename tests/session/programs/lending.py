"""Executors on two nodes that share an address: where they sit, and where their CPUs are during jobs, fits and losses."""

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ray
import ray.data
from ray.cluster_utils import Cluster
from ray.util import placement_group, placement_group_table

import raydp_ml
from raydp_ml.cluster import lending

NODE = {"num_cpus": 4, "memory": 4 << 30, "object_store_memory": 100 << 20}


def until(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: {groups()}, {free()} free, {executors()}")
        pause.wait(0.05)


def executors():
    return raydp_ml.spark_info()["executors"]


def lent():
    return sorted(info["lends_cpus"] for info in executors().values())


def free():
    return ray.available_resources().get("CPU", 0)


def groups():
    return Counter(group["state"] for group in placement_group_table().values() if group["state"] != "REMOVED")


def wait_for(path):
    def task(_):
        deadline = time.monotonic() + 150
        while not os.path.exists(path) and time.monotonic() < deadline:
            time.sleep(0.05)
        return 1

    return task


def main():
    folder = tempfile.mkdtemp(prefix="rdp_", dir="/tmp")
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False, "temp_dir": folder})
    going = cluster.add_node(**NODE)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    told = {}
    try:
        quiet = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.log.level": "ERROR"}
        spark = raydp_ml.init_spark("lending", 4, 2, "512m", configs=quiet)
        told["executors_per_node"] = sorted(Counter(info["node_id"] for info in executors().values()).values())
        until(lambda: free() == 8 and lent() == [True] * 4, "idle executors lend")

        go = Path(folder) / "go"
        with ThreadPoolExecutor() as threads:
            job = threads.submit(spark.sparkContext.parallelize(range(8), 8).map(wait_for(str(go))).sum)
            until(lambda: free() == 0 and lent() == [False] * 4, "busy executors take their CPUs back")
            began = time.monotonic()
            with lending.ask_for(4, each=2):
                until(lambda: free() == 4, "busy executors lend when they are asked")
                told["seconds_until_lent"] = time.monotonic() - began
                fit = placement_group([{"CPU": 2.0}] * 2)
                told["fit_starts"] = fit.wait(20)
                ray.util.remove_placement_group(fit)
                until(lambda: free() == 4, "the fit has ended")
                told["kept_while_asked"] = lent()
            until(lambda: free() == 0, "they take them back when the work has ended")

            # A lazy Dataset needs a CPU to become a frame, and the session's executors have all.
            made = ray.data.range(100, override_num_blocks=2).map_batches(lambda batch: {"x": batch["id"] * 2})
            told["converted"] = raydp_ml.to_spark(made).columns
            until(lambda: free() == 0, "they take them back when the conversion has ended")

            # Other programs of the cluster come first: their group waits until executors are idle, and then these take none.
            foreign = placement_group([{"CPU": 4.0}] * 2)
            told["foreign_waits"] = not foreign.wait(1)
            go.touch()
            told["job"] = job.result(120)
            told["foreign_comes"] = foreign.wait(30)
            told["job_beside_it"] = spark.range(0, 1000, 1, 8).selectExpr("sum(id)").first()[0]
            told["lent_beside_it"] = lent()
            ray.util.remove_placement_group(foreign)

        # A reservation ends with its executor, whether the executor, its actor or its node is killed.
        stay = Path(folder) / "stay"
        with ThreadPoolExecutor() as threads:
            job = threads.submit(spark.sparkContext.parallelize(range(8), 8).map(wait_for(str(stay))).sum)
            until(lambda: free() == 0 and groups() == {"CREATED": 4}, "busy executors take their CPUs back")
            # Of an executor on the node that stays; its actor is the JVM's parent.
            victim = next(info["pid"] for info in executors().values() if info["node_id"] != going.node_id)
            os.kill(int(Path(f"/proc/{victim}/stat").read_text().rpartition(")")[2].split()[1]), signal.SIGKILL)
            until(lambda: victim not in {info["pid"] for info in executors().values()}, "the executor is gone")
            until(
                lambda: groups() == {"CREATED": 4} and len(executors()) == 4, "another one has its place and its CPUs"
            )
            cluster.remove_node(going, allow_graceful=False)
            until(lambda: going.node_id not in {info["node_id"] for info in executors().values()}, "the node is gone")
            until(lambda: groups()["CREATED"] == 2, "its reservations are gone")
            stay.touch()
            told["job_with_losses"] = job.result(240)
        until(lambda: free() == 4, "idle executors lend")
        raydp_ml.stop_spark()
        told["groups_after_stop"] = dict(groups())
    finally:
        raydp_ml.stop_spark()
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    print("RESULT " + json.dumps(told))


if __name__ == "__main__":
    sys.exit(main())
