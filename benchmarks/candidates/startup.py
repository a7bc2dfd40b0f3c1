"""One start of Spark, in a process in which Ray already runs."""

import sys
import time

from answering import peer_settings, serve, start_ray

QUIET = {"spark.ui.enabled": "false"}


def first_job(spark):
    if spark.range(1000).selectExpr("sum(id)").first()[0] != 499500:
        raise RuntimeError("wrong sum")


def ours():
    import raydp_ml

    began = time.perf_counter()
    first_job(raydp_ml.init_spark("bench", 2, 1, "512m", configs=QUIET))
    seconds = time.perf_counter() - began
    raydp_ml.stop_spark()
    return {"seconds": seconds}


def peer():
    import raydp

    began = time.perf_counter()
    first_job(raydp.init_spark("bench", 2, 1, "512m", configs=peer_settings()))
    seconds = time.perf_counter() - began
    raydp.stop_spark()
    return {"seconds": seconds}


def local():
    from pyspark.sql import SparkSession

    began = time.perf_counter()
    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    first_job(spark)
    seconds = time.perf_counter() - began
    spark.stop()
    return {"seconds": seconds}


start_ray()
serve({"start": {"raydp_ml": ours, "raydp": peer, "local": local}[sys.argv[1]]})
