"""What a program ships, in each of the ways that Ray and Spark have: as Python workers of executors, a Ray task, a training worker
and a trial see it; and a table of Hive's catalog, which a later session reads.
"""

import json
import math
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import ray
import ray.data

import raydp_ml
from raydp_ml.cluster.jar import compile_jar, spark_home

# Functions of this program travel by value; those of an importable module would not be found by workers, which is the point.
folder = Path(tempfile.mkdtemp(prefix="rdp_deps_"))
METRIC = """
import os
VALUE = "in_py_modules"
def shipped(predicted, matrix):
    import in_working_dir
    return "shipped", 7.0 if os.environ["SHIPPED"] == "yes" else 0.0
"""
ALONE = """
def plus(number):
    return number + 1
def metric(predicted, matrix):
    return "alone", 0.0
"""
for place, text in (
    ("modules/in_py_modules/__init__.py", METRIC),
    ("work/in_working_dir.py", "VALUE = 'in_working_dir'\n"),
    ("late/in_py_file.py", "VALUE = 'in_py_file'\n"),
    ("alone/not_shipped.py", ALONE),
):
    file = folder / place
    file.parent.mkdir(parents=True)
    file.write_text(text)
(folder / "archive").mkdir()
(folder / "archive" / "inside.txt").write_text("in_archive")
archive = shutil.make_archive(str(folder / "shipped"), "zip", folder / "archive")
(folder / "file.txt").write_text("in_file")

POM = """<project><modelVersion>4.0.0</modelVersion>
<groupId>org.example</groupId><artifactId>times-two</artifactId><version>1.0</version></project>
"""
IVY = """<ivysettings><settings defaultResolver="local"/><resolvers>
<ibiblio name="local" m2compatible="true" root="{root}"/></resolvers></ivysettings>
"""


def make_jars() -> Path:
    """One jar to name, and one in a repository of Maven's layout, which Ivy finds with the settings that are returned."""
    both, repository = folder / "both.jar", folder / "maven" / "org" / "example" / "times-two" / "1.0"
    repository.mkdir(parents=True)
    names = ("PlusOne.scala", "TimesTwo.scala")
    compile_jar(spark_home(), both, {name: Path(__file__).with_name(name).read_bytes() for name in names})
    with zipfile.ZipFile(both) as compiled:
        for name, jar in (("PlusOne", folder / "plus.jar"), ("TimesTwo", repository / "times-two-1.0.jar")):
            with zipfile.ZipFile(jar, "w") as out:
                for entry in compiled.namelist():
                    if entry.startswith(name):
                        out.writestr(entry, compiled.read(entry))
    (repository / "times-two-1.0.pom").write_text(POM)
    ivy = folder / "ivysettings.xml"
    ivy.write_text(IVY.format(root=(folder / "maven").as_uri()))
    return ivy


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


def failure(call) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


def trained(spark, metric, **more):
    """An estimator whose metric is a function of a module."""
    frame = spark.range(0, 200, 1, 2).selectExpr("cast(id AS double) AS x", "cast(id % 7 AS double) AS y")
    est = raydp_ml.XGBEstimator(
        task="regression", label_column="y", num_boost_round=2, eval_metric=[metric], verbose=False, **more
    )
    return est, frame


def fits_and_trials(spark) -> dict:
    sys.path[:0] = [str(folder / "modules"), str(folder / "work"), str(folder / "alone")]
    import in_py_modules
    import not_shipped

    est, frame = trained(spark, in_py_modules.shipped)
    search = raydp_ml.GridSearch(est, {"max_depth": [2]}, cv=0.25, refit=False).fit(frame)
    alone, _ = trained(spark, not_shipped.metric, num_workers=2)
    numbers = spark.sparkContext.parallelize([1], 1)
    return {
        "fit": est.fit(frame).history_[-1]["train_shipped"],
        "trial": math.isfinite(search.cv_results_["mean_test_score"][0]),
        "not_shipped": {
            "spark": failure(numbers.map(not_shipped.plus).collect),
            "fit": failure(lambda: alone.fit(frame)),
        },
    }


def hive(tables: Path) -> dict[str, str]:
    return {
        "spark.sql.warehouse.dir": str(tables / "warehouse"),
        # The embedded metastore, which is a Derby database, and its log.
        "spark.driver.extraJavaOptions": f"-Dderby.system.home={tables}",
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
    ray.data.DataContext.get_current().enable_progress_bars = False
    settings = {
        "spark.ui.enabled": "false",
        "spark.jars.ivySettings": str(make_jars()),
        "spark.jars.ivy": str(folder / "ivy"),
        "spark.jars.packages": "org.example:times-two:1.0",
        "spark.jars": str(folder / "plus.jar"),
        "spark.archives": f"{archive}#unpacked",
        "spark.files": str(folder / "file.txt"),
        "spark.ray.preferClassPath": "/first.jar",
        "raydp.executor.extraClassPath": "/second.jar",
        "spark.executor.extraClassPath": "/third.jar",
        "spark.preferClassPath": "/driver-first.jar",
        "spark.driver.extraClassPath": "/driver-second.jar",
        **hive(folder),
    }
    spark = raydp_ml.init_spark("ships", 1, 1, "512m", enable_hive=True, configs=settings)
    spark.sparkContext.addPyFile(str(folder / "late" / "in_py_file.py"))
    spark.udf.registerJavaFunction("plus_one", "PlusOne", "bigint")
    spark.udf.registerJavaFunction("times_two", "TimesTwo", "bigint")
    result = {
        "spark": spark.sparkContext.parallelize([0], 1).map(seen_by_spark).first(),
        "task": ray.get(ray.remote(seen).remote()),
        "jar": [row[0] for row in spark.range(3).selectExpr("plus_one(id)").collect()],
        "package": [row[0] for row in spark.range(3).selectExpr("times_two(id)").collect()],
    }
    path = spark.range(1).selectExpr("java_method('java.lang.System', 'getProperty', 'java.class.path')").first()[0]
    result["class_path"] = path.split(":")[1:4]
    result["driver_class_path"] = spark._jvm.System.getProperty("java.class.path").split(":")[1:3]
    # Of Hive's own form of tables, which Spark without Hive refuses.
    spark.sql("CREATE TABLE kept STORED AS ORC AS SELECT id, id * id AS square FROM range(5)")
    result |= fits_and_trials(spark)
    raydp_ml.stop_spark()
    later = raydp_ml.init_spark(
        "reads", 1, 1, "512m", enable_hive=True, configs={"spark.ui.enabled": "false", **hive(folder)}
    )
    result["table"] = [tuple(row) for row in later.table("kept").orderBy("id").collect()]
    print("RESULT " + json.dumps(result), file=sys.stdout)
finally:
    raydp_ml.stop_spark()
    shutil.rmtree(folder, ignore_errors=True)
