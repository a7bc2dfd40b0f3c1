"""Every description becomes the object of Spark that a user would have made, and works like it."""

from __future__ import annotations

import pytest
from pyspark.ml import Transformer
from pyspark.ml import feature as spark_feature
from pyspark.ml.classification import LogisticRegression as SparkLogisticRegression
from pyspark.ml.linalg import DenseMatrix
from pyspark.ml.param.shared import HasInputCol

from raydp_ml import feature
from raydp_ml.feature import (
    OneHotEncoder,
    Pipeline,
    StandardScaler,
    StopWordsRemover,
    StringIndexer,
    VectorAssembler,
    describe,
)
from raydp_ml.feature.ml import KMeans, LogisticRegression, OneVsRest
from raydp_ml.feature.values import equal

pytestmark = pytest.mark.spark35

EVERY = [getattr(feature, name) for name in feature.__all__ if name not in ("Stage", "describe")]
EVERY += [getattr(feature.ml, name) for name in feature.ml.__all__ if name != "Pipeline"]

# A value for each type of Param that is no default anywhere.
SAMPLES = {
    "bool": None,  # the opposite of the default
    "float": 0.375,
    "int": 17,
    "str": "sample",
    "list of float": [0.25, 0.75],
    "list of int": [3, 1],
    "list of lists of float": [[0.25], [0.75]],
    "list of str": ["one", "two"],
    "Matrix of pyspark.ml.linalg": DenseMatrix(1, 1, [2.5]),
    "Vector of pyspark.ml.linalg or list of float": [2.5],
    "": None,
}


class Drop(Transformer, HasInputCol):
    """A user's own stage."""

    def _transform(self, dataset):
        return dataset.drop(self.getInputCol())


@pytest.fixture(scope="module")
def flights(spark):
    rows = [
        ("a", 1.0, 2.0, 0),
        ("b", 2.0, 1.0, 1),
        ("a", 4.0, 1.5, 0),
        ("c", 3.0, 0.5, 2),
        ("b", 5.0, 0.0, 1),
        ("c", 0.0, 9.0, 2),
    ]
    return spark.createDataFrame(rows, "carrier string, distance double, delay double, label int").repartition(1)


def values_by_name(real):
    """All values that a real object has, without names made of its id."""
    values = {param.name: value for param, value in real.extractParamMap().items()}
    return {name: value for name, value in values.items() if not (isinstance(value, str) and real.uid in value)}


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_every_class_becomes_the_object_of_spark(spark, kind):
    described, real, plain = kind(), kind().to_spark(), kind.spark_class()
    assert type(real) is kind.spark_class
    assert not any(real.isSet(param) for param in real.params)
    ours, theirs = values_by_name(real), values_by_name(plain)
    assert ours.keys() == theirs.keys() and all(equal(ours[name], theirs[name]) for name in ours)
    # What a description shows as a default is what the object has, and None where it has none or one that only it knows.
    shown = described.get_params()
    assert shown.keys() == {param.name for param in real.params}
    for name, value in shown.items():
        assert equal(value, theirs.get(name)) or (value is None and name in UNWRITTEN), name
    assert describe(plain) == described


# Defaults that only the object knows, since its signature says None: seeds, and lists from the JVM.
UNWRITTEN = {"seed", "stopWords", "locale", "indices", "names"}


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_every_parameter_reaches_the_object(spark, kind):
    for name, parameter in kind._parameters.by_name.items():
        sample = not parameter.default if parameter.type_name == "bool" else SAMPLES[parameter.type_name]
        if sample is None:
            continue
        described = kind(**{name: sample})
        real = described.to_spark()
        kept = getattr(described, name)
        assert equal(real.getOrDefault(name), kept) and not equal(kept, parameter.default)
        assert [param.name for param in real.params if real.isSet(param)] == [name]
        assert describe(real) == described
        assert kind(**described.get_params()).to_dict() == described.to_dict() or kind is StopWordsRemover


def test_a_described_pipeline_does_what_a_real_one_does(flights):
    described = Pipeline(
        stages=[
            StringIndexer(inputCol="carrier", outputCol="index"),
            OneHotEncoder(inputCols=["index"], outputCols=["onehot"], dropLast=False),
            VectorAssembler(inputCols=["onehot", "distance", "delay"], outputCol="raw"),
            StandardScaler(inputCol="raw", outputCol="features", withMean=True),
            describe(Drop, inputCol="raw"),
            OneVsRest(classifier=LogisticRegression(regParam=0.01, maxIter=20)),
        ]
    )
    real = described.to_spark()
    assert [stage.getOrDefault("outputCol") for stage in real.getStages()[:1]] == ["index"]
    ours = real.fit(flights).transform(flights)
    assert "raw" not in ours.columns

    steps = [
        spark_feature.StringIndexer(inputCol="carrier", outputCol="index"),
        spark_feature.OneHotEncoder(inputCols=["index"], outputCols=["onehot"], dropLast=False),
        spark_feature.VectorAssembler(inputCols=["onehot", "distance", "delay"], outputCol="raw"),
        spark_feature.StandardScaler(inputCol="raw", outputCol="features", withMean=True),
    ]
    theirs = flights
    for step in steps:
        theirs = (step.fit(theirs) if hasattr(step, "fit") else step).transform(theirs)
    assert ours.select("features").collect() == theirs.select("features").collect()
    assert [row.prediction for row in ours.collect()] == [0.0, 1.0, 0.0, 2.0, 1.0, 2.0]
    assert describe(real) == described

    # A real object inside a description is described, a seed reaches Java.
    mixed = OneVsRest(classifier=SparkLogisticRegression(maxIter=3))
    assert mixed == OneVsRest(classifier=LogisticRegression(maxIter=3))
    assert KMeans(seed=5).to_spark()._to_java().getSeed() == 5


def test_what_only_the_jvm_knows_is_there_after_all(spark):
    remover = StopWordsRemover(inputCol="words", outputCol="left", stopWords=None)
    frame = spark.createDataFrame([(["The", "wing"],)], "words array<string>")
    assert remover.to_spark().transform(frame).first().left == ["wing"]
    assert StopWordsRemover(stopWords=["wing"]).to_spark().getStopWords() == ["wing"]


def test_a_description_made_while_a_session_runs_is_the_same(spark):
    """The defaults are read without Java even where Java is there."""
    from raydp_ml.feature.parameters import parameters_of

    for kind in EVERY:
        fresh = parameters_of.__wrapped__(kind.spark_class)
        assert fresh.exact_defaults == kind._parameters.exact_defaults
        for name, parameter in fresh.by_name.items():
            assert equal(parameter.default, kind._parameters.by_name[name].default), (kind, name)
