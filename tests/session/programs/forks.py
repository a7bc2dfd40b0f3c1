"""A program forks before it has a session, with Ray alone, and with a session; its last child outlives it."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time

import ray

import raydp_ml

QUIET = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"}
ARGUMENTS = ("forks", 1, 1, "512m")


def in_child(work) -> object:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=lambda: theirs.send(work()))
    child.start()
    if not ours.poll(120):
        child.kill()
        return "nothing came"
    child.join()
    return ours.recv()


def failure(call) -> str:
    began = time.monotonic()
    try:
        call()
    except Exception as error:
        late = "" if time.monotonic() - began < 5 else "late: "
        return f"{late}{type(error).__name__}: {error}"
    return "nothing was raised"


def start_ray() -> None:
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


def session_of_a_child() -> int:
    start_ray()
    with raydp_ml.init_spark(*ARGUMENTS, configs=QUIET) as spark:
        return spark.range(10).count()


def main() -> dict:
    told: dict = {"before": in_child(session_of_a_child)}
    start_ray()
    told["with_ray"] = in_child(lambda: failure(raydp_ml.init_spark))
    spark = raydp_ml.init_spark(*ARGUMENTS, configs=QUIET)
    frame = spark.range(0, 1000, 1, 2).cache()
    told["refused"] = in_child(
        lambda: {
            "init_spark": failure(lambda: raydp_ml.init_spark(*ARGUMENTS, configs=QUIET)),
            "from_spark": failure(lambda: raydp_ml.from_spark(frame)),
            "count": failure(frame.count),
            "grandchild": in_child(lambda: failure(raydp_ml.init_spark)),
            "info": raydp_ml.spark_info(),
        }
    )
    # This one ends as a program does: with all exit handlers, those of Ray, too.
    pid = os.fork()
    if pid == 0:
        raydp_ml.stop_spark()
        sys.exit(3)
    late = threading.Timer(30, os.kill, (pid, signal.SIGKILL))
    late.start()
    told["exit_code"] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    late.cancel()
    told["count"] = frame.count()
    told["rows"] = raydp_ml.from_spark(frame).count()
    told["same"] = raydp_ml.init_spark(*ARGUMENTS, configs=QUIET) is spark
    info = raydp_ml.spark_info()
    told["app"] = info["app_id"]
    told["pids"] = [spark._jvm.java.lang.ProcessHandle.current().pid(), *(e["pid"] for e in info["executors"].values())]
    return told


if __name__ == "__main__":
    told = main()
    child = os.fork()
    if child == 0:
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        time.sleep(120)
        os._exit(0)
    print("RESULT " + json.dumps(told | {"child": child}), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
