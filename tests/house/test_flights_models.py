"""The flights example's models: XGBEstimator is worth what plain xgboost is, and the net beats logistic regression."""

from __future__ import annotations

import flights_data
import flights_delay
import numpy as np
import pytest
import xgboost
from sklearn.metrics import roc_auc_score

from raydp_ml import SparkRayPipeline


@pytest.fixture(scope="module")
def frames(spark, tmp_path_factory):
    spark.conf.set("spark.sql.shuffle.partitions", "4")
    tables = flights_data.read_tables(spark, tmp_path_factory.mktemp("flights"))
    flights = flights_data.flight_features(tables).cache()
    yield flights_data.split_by_month(flights)
    flights.unpersist()


def auc(model, test) -> float:
    told = flights_delay.probability_of_late(model, test).toPandas()
    assert len(told) == 82_609
    return roc_auc_score(told[flights_data.LABEL], told["p"])


def matrix(frame) -> tuple[np.ndarray, np.ndarray]:
    rows = frame.select("features", flights_data.LABEL).toPandas()
    return np.stack([vector.toArray() for vector in rows["features"]]).astype("float32"), rows[flights_data.LABEL]


def test_xgboost_pipeline_equals_plain_xgboost(frames):
    train, test = frames
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


def test_net_with_embeddings_beats_logistic_regression(frames):
    train, test = frames
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
