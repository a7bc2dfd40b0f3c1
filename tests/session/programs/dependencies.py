"""What a program ships, in each of the ways that Ray and Spark have, as Python workers of executors and a Ray task see it."""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import ray

import raydp_ml
from raydp_ml.cluster.jar import compile_jar, spark_home

# Functions of this program travel by value; those of an importable module would not be found by workers, which is the point.
folder = Path(tempfile.mkdtemp(prefix="rdp_deps_"))
for name, place in (("in_py_modules", "modules/in_py_modules/__init__.py"), ("in_working_dir", "work/in_working_dir.py"),
                    ("in_py_file", "late/in_py_file.py")):  # fmt: skip
    file = folder / place
    file.parent.mkdir(parents=True)
    file.write_text(f"VALUE = {name!r}\n")
(folder / "archive").mkdir()
(folder / "archive" / "inside.txt").write_text("in_archive")
archive = shutil.make_archive(str(folder / "shipped"), "zip", folder / "archive")
(folder / "file.txt").write_text("in_file")
jar = folder / "plus.jar"
compile_jar(spark_home(), jar, {"PlusOne.scala": Path(__file__).with_name("PlusOne.scala").read_bytes()})


def seen() -> dict:
    import in_py_modules
    import in_working_dir

    return {"modules": in_py_modules.VALUE, "work": in_working_dir.VALUE, "variable": os.environ.get("SHIPPED")}


def seen_by_spark(_: int) -> dict:
    import in_py_file
    from pyspark import SparkFiles

    return seen() | {
        "py_file": in_py_file.VALUE,
        "archive": (Path(SparkFiles.get("unpacked")) / "inside.txt").read_text(),
        "file": Path(SparkFiles.get("file.txt")).read_text(),
    }


try:
    ray.init(
        num_cpus=3,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={
            "env_vars": {"SHIPPED": "yes"},
            "working_dir": str(folder / "work"),
            "py_modules": [str(folder / "modules" / "in_py_modules")],
        },
    )
    settings = {
        "spark.jars": str(jar),
        "spark.archives": f"{archive}#unpacked",
        "spark.files": str(folder / "file.txt"),
    }
    spark = raydp_ml.init_spark("ships", 1, 1, "512m", configs={"spark.ui.enabled": "false", **settings})
    spark.sparkContext.addPyFile(str(folder / "late" / "in_py_file.py"))
    spark.udf.registerJavaFunction("plus_one", "PlusOne", "bigint")
    result = {
        "spark": spark.sparkContext.parallelize([0], 1).map(seen_by_spark).first(),
        "task": ray.get(ray.remote(seen).remote()),
        "jar": [row[0] for row in spark.range(3).selectExpr("plus_one(id)").collect()],
    }
    print("RESULT " + json.dumps(result), file=sys.stdout)
finally:
    raydp_ml.stop_spark()
    shutil.rmtree(folder, ignore_errors=True)
