"""Ray is shut down below a Spark session, twice: the session is over, its jobs end, and the same arguments make a new one."""

from __future__ import annotations

import faulthandler
import json
import time

import ray

import raydp_ml
from raydp_ml.session import host_actors

QUIET = {"spark.ui.enabled": "false"}


def start_ray() -> None:
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


def start_spark():
    return raydp_ml.init_spark("again", 1, 1, "512m", configs=QUIET)


def failure(call) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


def main() -> dict:
    start_ray()
    first = start_spark()
    frame, told = first.range(10), {"same": start_spark() is first}
    app = raydp_ml.spark_info()["app_id"]
    ray.shutdown()
    told["info"] = raydp_ml.spark_info()
    told["hosts"] = host_actors()
    began = time.monotonic()
    told["job"] = failure(frame.count)
    told["seconds"] = time.monotonic() - began
    told["ray_stays_down"] = not ray.is_initialized()
    told["from_spark"] = failure(lambda: raydp_ml.from_spark(frame))

    start_ray()
    second = start_spark()
    told["another"] = second is not first and raydp_ml.spark_info()["app_id"] != app
    told["count"] = second.range(10).count()
    told["rows"] = raydp_ml.from_spark(second.range(10)).count()

    # This time the other Ray is there before anybody looks at the session.
    ray.shutdown()
    start_ray()
    third = start_spark()
    told["third"] = third is not second and third.range(10).count() == 10
    raydp_ml.stop_spark()
    told["cpus"] = ray.cluster_resources()["CPU"]
    ray.shutdown()
    return told


if __name__ == "__main__":
    faulthandler.dump_traceback_later(300, exit=True)
    print("RESULT " + json.dumps(main()), flush=True)
