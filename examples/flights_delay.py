"""Will a flight from New York arrive late? Three models on the same features, a search, and a saved pipeline.

    python examples/flights_delay.py            # or `make demo`

Spark runs inside Ray and turns the 336,776 flights of 2013 into features (flights_data.py). Two pipelines of Spark ML
stages end in an estimator that Ray Train fits, one with XGBoost, one with PyTorch; Spark ML's logistic regression is there
to compare with. Ray Tune looks for better XGBoost settings, and the best pipeline is saved, loaded in a fresh process and
asked again. Pictures, data and the saved pipeline go to ``out/``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import ray
from flights_data import CATEGORIES, FLAGS, LABEL, NUMBERS, flight_features, read_tables, split_by_month
from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.feature import Imputer, OneHotEncoder, StandardScaler, StringIndexer, VectorAssembler
from pyspark.ml.functions import vector_to_array
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from sklearn.metrics import log_loss, roc_auc_score

from raydp_ml import GridSearch, SparkRayPipeline, TorchEstimator, XGBEstimator, init_spark, load, stop_spark

OUT = Path("out")
CODES = [f"{name}_code" for name in CATEGORIES]
started = time.perf_counter()


def say(text: str) -> None:
    print(f"[{time.perf_counter() - started:4.0f} s] {text}", flush=True)


# The pipelines.


def codes_and_numbers() -> list:
    """The steps that all models share: category codes (unseen ones get a code of their own) and no gaps."""
    return [
        ("codes", StringIndexer(inputCols=CATEGORIES, outputCols=CODES, handleInvalid="keep")),
        ("fill", Imputer(inputCols=NUMBERS, outputCols=NUMBERS, strategy="median")),
    ]


def scaled_numbers() -> list:
    """What a model that multiplies its inputs needs on top: all numbers on one scale."""
    return [
        ("numbers", VectorAssembler(inputCols=NUMBERS + FLAGS, outputCol="numbers")),
        ("scale", StandardScaler(inputCol="numbers", outputCol="scaled", withMean=True)),
    ]


def xgboost_pipeline() -> SparkRayPipeline:
    model = XGBEstimator(
        objective="binary:logistic",
        eval_metric=["logloss"],
        num_boost_round=120,
        max_depth=6,
        eta=0.1,
        subsample=0.8,
        colsample_bytree=0.8,
        label_column=LABEL,
        validation=0.1,
        random_state=13,
        verbose=False,
    )
    vector = VectorAssembler(inputCols=CODES + NUMBERS + FLAGS, outputCol="features")
    return SparkRayPipeline([*codes_and_numbers(), ("vector", vector), ("model", model)])


def torch_pipeline() -> SparkRayPipeline:
    # Here and not above: half of what Python reads at a cold start is torch, and by now Spark works meanwhile.
    from flights_net import FlightNet

    model = TorchEstimator(
        # One code more than 2013 has: destinations that come up after training. 16 carriers, 3 origins, 105 destinations.
        FlightNet(carriers=17, origins=4, destinations=106, numbers=len(NUMBERS + FLAGS)),
        loss="bce_with_logits",
        optimizer="adam",
        lr=1e-3,
        batch_size=1024,
        num_epochs=8,
        task="classification",
        label_column=LABEL,
        validation=0.1,
        random_state=13,
        verbose=False,
    )
    vector = VectorAssembler(inputCols=[*CODES, "scaled"], outputCol="features")
    return SparkRayPipeline([*codes_and_numbers(), *scaled_numbers(), ("vector", vector), ("model", model)])


def logistic_regression() -> Pipeline:
    """Spark ML alone: no code order to be misread, each category is a column of its own."""
    one_hot = [f"{name}_one_hot" for name in CATEGORIES]
    stages = [stage for _, stage in codes_and_numbers() + scaled_numbers()]
    return Pipeline(
        stages=[
            *stages,
            OneHotEncoder(inputCols=CODES, outputCols=one_hot),
            VectorAssembler(inputCols=[*one_hot, "scaled"], outputCol="features"),
            LogisticRegression(labelCol=LABEL, maxIter=30),
        ]
    )


# What each model is worth.


def probability_of_late(model, test: DataFrame) -> DataFrame:
    """Label and predicted probability, whichever kind of model it is."""
    if isinstance(model, SparkRayPipeline):
        return model.predict_proba(test).select(LABEL, F.col("probability")[1].alias("p"))
    return model.transform(test).select(LABEL, vector_to_array("probability")[1].alias("p"))


def judge(name: str, model, test: DataFrame, fit_seconds: float) -> dict:
    """One row of the table, and the predictions for the ROC curve."""
    begun = time.perf_counter()
    told = probability_of_late(model, test).toPandas()
    seconds = time.perf_counter() - begun
    scores = {"test AUC": roc_auc_score(told[LABEL], told["p"]), "log loss": log_loss(told[LABEL], told["p"])}
    say(f"{name}: test AUC {scores['test AUC']:.4f}, fitted in {fit_seconds:.0f} s")
    return {"model": name, **scores, "fit s": fit_seconds, "predicted rows/s": len(told) / seconds, "told": told}


def fit_and_judge(name: str, model, train: DataFrame, test: DataFrame) -> dict:
    begun = time.perf_counter()
    fitted = model.fit(train)
    return judge(name, fitted, test, time.perf_counter() - begun)


def print_table(rows: list[dict]) -> None:
    table = pd.DataFrame(rows).drop(columns="told").set_index("model")
    formats = {"test AUC": "{:.4f}", "log loss": "{:.4f}", "fit s": "{:.1f}", "predicted rows/s": "{:,.0f}"}
    print(table.to_string(formatters={name: text.format for name, text in formats.items()}))


# The saved pipeline, asked again where nothing is left of this process.


def save_with_sample(pipeline: SparkRayPipeline, test: DataFrame, folder: Path) -> None:
    """The pipeline, and 5,000 flights with what it says of them."""
    shutil.rmtree(folder, ignore_errors=True)
    pipeline.save(str(folder / "pipeline"))
    sample = test.limit(5000).toPandas()
    sample.assign(expected=pipeline.predict_proba(sample)[:, 1]).to_parquet(folder / "sample.parquet")


def predict_again(folder: Path) -> None:
    """Load the pipeline in this process and compare its predictions with the recorded ones."""
    start_spark("flights-again")
    sample = pd.read_parquet(folder / "sample.parquet")
    told = load(str(folder / "pipeline")).predict_proba(sample)[:, 1]
    stop()
    if not np.array_equal(told, sample["expected"]):
        sys.exit(f"predictions of the loaded pipeline differ by up to {np.abs(told - sample['expected']).max()}")
    say(f"loaded in a fresh process: its predictions for {len(sample):,} flights are equal")


# Spark in Ray, and the whole of it.


def start_spark(name: str):
    """On one machine, one executor: a second would load and compile the same classes, and start the same Python, once more.

    It lends its CPUs to whatever trains, so the machine's own number of CPUs will do.
    """
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 lets anything else on a busy machine go first
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    os.environ.setdefault("SPARK_CONF_DIR", str(Path(__file__).parent / "spark-conf"))  # a quieter log
    settings = {"spark.sql.shuffle.partitions": "4", "spark.ui.showConsoleProgress": "false"}
    return init_spark(name, num_executors=1, executor_cores=2, executor_memory="2g", configs=settings)


def stop() -> None:
    stop_spark()
    ray.shutdown()


def main() -> None:
    OUT.mkdir(exist_ok=True)
    say("starting Ray, and Spark with an executor of two cores inside it")
    spark = start_spark("flights")

    flights = flight_features(read_tables(spark, OUT / "data")).cache()
    train, test = split_by_month(flights)
    say(
        f"features of {flights.count():,} flights: {train.count():,} to learn from (January to September), "
        f"{test.count():,} to test on (October to December)"
    )

    pipelines = {"PyTorch with embeddings": torch_pipeline(), "XGBoost": xgboost_pipeline()}
    rows = [fit_and_judge("logistic regression (Spark ML)", logistic_regression(), train, test)]
    rows += [fit_and_judge(name, pipeline, train, test) for name, pipeline in pipelines.items()]

    candidates = {"model__max_depth": [4, 6], "model__eta": [0.05, 0.1]}
    say("searching: four XGBoost candidates, two folds each")
    begun = time.perf_counter()
    search = GridSearch(xgboost_pipeline(), candidates, cv=2, scoring="roc_auc").fit(train)
    best = ", ".join(f"{name.removeprefix('model__')} {value}" for name, value in search.best_params_.items())
    say(f"best of the four: {best}, AUC {search.best_score_:.4f} in cross-validation")
    rows.append(judge("XGBoost, best of four", search.best_estimator_, test, time.perf_counter() - begun))

    print()
    print_table(rows)
    print()
    from flights_pictures import draw_learning_curves, draw_roc  # with matplotlib, which nothing before needs

    draw_roc(rows, OUT / "roc.png")
    draw_learning_curves(pipelines, OUT / "learning_curves.png")
    save_with_sample(search.best_estimator_, test, OUT / "flights")
    say("drawn: out/roc.png, out/learning_curves.png; saved: out/flights/pipeline")
    stop()
    subprocess.run([sys.executable, __file__, "again"], check=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["again"]:
        predict_again(OUT / "flights")
    else:
        main()
