"""Local stages give the numbers of the Spark stages that they come from, and fail on the rows on which these fail."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyspark.ml import Estimator, Pipeline
from pyspark.ml import feature as sf
from pyspark.ml.classification import LinearSVC, LogisticRegression
from pyspark.ml.clustering import KMeans
from pyspark.ml.linalg import Vectors
from pyspark.ml.regression import LinearRegression
from pyspark.sql import functions as F

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.serving.columns import LocalFrame
from raydp_ml.serving.extraction import REFUSED, SUPPORTED, local_stage
from raydp_ml.serving.stage import from_plain, to_plain
from tests.serving.frames import same, spark_values, to_local, values_of

pytestmark = pytest.mark.spark35

NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def people(spark):
    """Numbers with nulls and not-a-numbers, words with nulls and capitals, of many types."""
    rows = [
        ("Oslo", 1.5, 3, 10_000_000.0, True, "The quick  brown fox\t", 0),
        ("Rome", -2.0, 1, 0.25, False, "  a lazy dog", 1),
        ("Oslo", NAN, None, 1.0, None, "", 0),
        (None, None, 7, 0.00012, True, "ÉTÉ à Paris\x0bİ straße the fox fox", 1),
        ("Lima", 0.0, 1, 1e22, True, "dog dog dog", 1),
        ("Rome", 4.25, 3, -0.0, False, " ", 0),
    ]
    schema = "city string, age double, floor int, pay double, member boolean, note string, label int"
    return spark.createDataFrame(rows, schema).repartition(1).cache()


@pytest.fixture(scope="module")
def whole(people):
    """The rows without missing values."""
    return people.na.drop().cache()


@pytest.fixture(scope="module")
def points(spark):
    """Vectors, dense and sparse in turn, one element of which never varies."""
    rows = [
        (Vectors.dense(1.0, -2.0, 0.0, 5.0), 0.0),
        (Vectors.sparse(4, [0, 3], [2.0, 5.0]), 1.0),
        (Vectors.dense(0.0, 3.5, -1.0, 5.0), 1.0),
        (Vectors.sparse(4, [2, 3], [-1.0, 5.0]), 0.0),
        (Vectors.dense(4.0, 0.5, 2.0, 5.0), 1.0),
    ]
    return spark.createDataFrame(rows, ["point", "label"]).repartition(1).cache()


def compare(stage, df, output, on=None):
    """Fit a stage, make it local, and compare the column; also after it was written down and read again."""
    model = stage.fit(df) if isinstance(stage, Estimator) else stage
    on = df if on is None else on
    made = local_stage(model, df)
    again = from_plain(through_json(to_plain(made)))
    theirs = spark_values(model.transform(on), output)
    frame = to_local(on)
    for local in (made, again):
        ours = values_of(local.transform(frame), output)
        assert same(ours, theirs), f"\nours   {ours}\ntheirs {theirs}"
    assert output in made.outputs and set(made.inputs) <= set(on.columns)
    assert made.transform(frame.where(np.zeros(frame.rows, dtype=bool))).rows == 0
    return made


def through_json(written):
    """What a saved directory keeps of it: arrays and everything else apart, as JSON."""

    def encode(value):
        assert isinstance(value, np.ndarray), f"{value!r} has no written form"
        return {"array": value.tolist(), "dtype": str(value.dtype)}

    def decode(value):
        return np.array(value["array"], dtype=value["dtype"]) if "array" in value else value

    return json.loads(json.dumps(written, default=encode), object_hook=decode)


def assert_fail_alike(model, output, on):
    """Row by row, one fails when the other does, which is at least once, and otherwise the values are the same."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    made, rows, failures = local_stage(model, on), to_local(on), 0
    schema = on.schema
    for position, row in enumerate(on.collect()):
        one = on.sparkSession.createDataFrame([row], schema)
        alone = rows.where(np.arange(rows.rows) == position)
        try:
            theirs = spark_values(model.transform(one), output)
        except (Py4JJavaError, PySparkException):
            failures += 1
            with pytest.raises(InvalidValueError):
                made.transform(alone)
        else:
            assert same(values_of(made.transform(alone), output), theirs), row
    assert failures


# ---- categories ----------------------------------------------------------------------------------------------------


def test_strings_are_indexed(people, whole):
    for handle in ("keep", "skip"):
        compare(sf.StringIndexer(inputCol="city", outputCol="x", handleInvalid=handle), whole, "x", on=people)
        several = sf.StringIndexer(inputCols=["city", "note"], outputCols=["x", "y"], handleInvalid=handle)
        for output in ("x", "y"):
            compare(several, whole, output, on=people)
    # Numbers are categories by what Java writes for them.
    for name in ("pay", "floor", "age"):
        compare(sf.StringIndexer(inputCol=name, outputCol="x", handleInvalid="keep"), people, "x")
        labels = sf.StringIndexer(inputCol=name, outputCol="x", handleInvalid="keep").fit(people)
        local = local_stage(labels, people).transform(to_local(people))
        assert values_of(local, "x") == spark_values(labels.transform(people), "x")
    as_float = people.withColumn("pay", F.col("pay").cast("float"))
    compare(sf.StringIndexer(inputCol="pay", outputCol="x"), as_float, "x")
    model = sf.StringIndexer(inputCol="city", outputCol="x").fit(whole)
    assert_fail_alike(model, "x", people)
    with pytest.raises(InvalidValueError, match=r"'city' has 'Lyon', which is none of its labels.*row 1"):
        local_stage(model, whole).transform(LocalFrame.from_arrow(pa.table({"city": ["Rome", "Lyon"]})))
    # Rows that are skipped are missing, and the others know where they were.
    skipping = local_stage(model.copy({model.handleInvalid: "skip"}), whole)
    assert skipping.transform(LocalFrame.from_arrow(pa.table({"city": ["Lyon", "Rome", None]}))).positions.tolist() == [
        1
    ]


def test_indices_become_labels_again(whole):
    indexed = sf.StringIndexer(inputCol="city", outputCol="x").fit(whole).transform(whole)
    compare(sf.IndexToString(inputCol="x", outputCol="y"), indexed, "y")
    compare(sf.IndexToString(inputCol="x", outputCol="y", labels=["a", "b", "c"]), indexed, "y")
    assert_fail_alike(sf.IndexToString(inputCol="x", outputCol="y", labels=["a"]), "y", indexed)


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("handle", ["keep", "error"])
def test_indices_become_one_hot(spark, drop_last, handle):
    df = spark.createDataFrame([(0.0, 2), (1.0, 0), (2.0, 1)], "a double, b int")
    other = spark.createDataFrame([(1.0, 2), (None, 1), (0.0, None)], "a double, b int")
    encoder = sf.OneHotEncoder(inputCols=["a", "b"], outputCols=["x", "y"], dropLast=drop_last, handleInvalid=handle)
    for output in ("x", "y"):
        compare(encoder, df, output)
        compare(encoder, df, output, on=other)
    unseen = spark.createDataFrame([(3.0, 1), (NAN, 0), (-1.0, 7)], "a double, b int")
    if handle == "keep":
        seen = spark.createDataFrame([(3.0, 1), (7.0, 9)], "a double, b int")
        compare(encoder, df, "x", on=seen)
    else:
        assert_fail_alike(encoder.fit(df), "x", unseen)


def test_elements_of_vectors_are_indexed(spark, points):
    compare(sf.VectorIndexer(inputCol="point", outputCol="x", maxCategories=4), points, "x")
    new = spark.createDataFrame(
        [(Vectors.dense(1.0, -2.0, 7.0, 5.0),), (Vectors.dense(9.0, 3.5, 2.0, 5.0),)], ["point"]
    )
    for handle in ("keep", "skip"):
        compare(
            sf.VectorIndexer(inputCol="point", outputCol="x", maxCategories=4, handleInvalid=handle),
            points,
            "x",
            on=new,
        )
    assert_fail_alike(sf.VectorIndexer(inputCol="point", outputCol="x", maxCategories=4).fit(points), "x", new)


# ---- numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["mean", "median", "mode"])
def test_missing_numbers_are_imputed(people, strategy):
    imputer = sf.Imputer(inputCols=["age", "floor", "pay"], outputCols=["x", "y", "z"], strategy=strategy)
    for output in ("x", "y", "z"):
        compare(imputer, people, output)
        compare(imputer.copy({imputer.missingValue: 1.0}), people.na.fill({"age": 0.5}), output)
    compare(sf.Imputer(inputCol="age", outputCol="x", missingValue=0.0), people.where("not isnan(age)"), "x", on=people)


def test_numbers_fall_into_buckets(people, whole):
    splits = [-INF, -2.0, 0.0, 4.25, INF]
    for handle in ("keep", "skip"):
        compare(sf.Bucketizer(splits=splits, inputCol="age", outputCol="x", handleInvalid=handle), people, "x")
    compare(sf.Bucketizer(splits=[-2.0, 0.0, 4.25], inputCol="age", outputCol="x"), whole, "x")
    both = sf.Bucketizer(
        splitsArray=[splits, [0.0, 3.0, 7.0]], inputCols=["age", "floor"], outputCols=["x", "y"], handleInvalid="skip"
    )
    for output in ("x", "y"):
        compare(both, people, output)
    assert_fail_alike(sf.Bucketizer(splits=splits, inputCol="age", outputCol="x"), "x", people)
    assert_fail_alike(sf.Bucketizer(splits=[-1.0, 0.0, 4.0], inputCol="age", outputCol="x"), "x", people)
    quantiles = sf.QuantileDiscretizer(numBuckets=3, inputCol="pay", outputCol="x", handleInvalid="keep")
    compare(quantiles, people, "x")


def test_numbers_become_binary(people, points):
    compare(sf.Binarizer(threshold=0.5, inputCol="age", outputCol="x"), people, "x")
    several = sf.Binarizer(thresholds=[0.0, 1.0], inputCols=["age", "pay"], outputCols=["x", "y"])
    for output in ("x", "y"):
        compare(several, people, output)
    for threshold in (1.5, -1.5):
        compare(sf.Binarizer(threshold=threshold, inputCol="point", outputCol="x"), points, "x")


# ---- vectors -------------------------------------------------------------------------------------------------------


def test_columns_are_assembled(spark, people, whole):
    names = ["age", "floor", "member", "pay"]
    compare(sf.VectorAssembler(inputCols=names, outputCol="x"), whole, "x")
    for handle in ("keep", "skip"):
        compare(sf.VectorAssembler(inputCols=names, outputCol="x", handleInvalid=handle), people, "x")
    assert_fail_alike(sf.VectorAssembler(inputCols=names, outputCol="x"), "x", people)
    indexed = sf.StringIndexer(inputCol="city", outputCol="i").fit(whole).transform(people.where("city is not null"))
    hot = sf.OneHotEncoder(inputCols=["i", "label"], outputCols=["u", "v"]).fit(indexed).transform(indexed)
    for handle in ("keep", "skip"):
        compare(sf.VectorAssembler(inputCols=["u", "age", "v"], outputCol="x", handleInvalid=handle), hot, "x")
    missing = hot.withColumn("u", F.when(F.col("label") == 1, F.col("u")))
    sized = sf.VectorSizeHint(inputCol="u", size=2, handleInvalid="optimistic").transform(missing)
    for handle in ("keep", "skip"):
        compare(sf.VectorAssembler(inputCols=["u", "label"], outputCol="x", handleInvalid=handle), sized, "x")


def test_vectors_are_scaled(points):
    for with_mean in (True, False):
        for with_std in (True, False):
            compare(
                sf.StandardScaler(inputCol="point", outputCol="x", withMean=with_mean, withStd=with_std), points, "x"
            )
            compare(
                sf.RobustScaler(inputCol="point", outputCol="x", withCentering=with_mean, withScaling=with_std),
                points,
                "x",
            )
    compare(sf.MinMaxScaler(inputCol="point", outputCol="x", min=-1.0, max=3.0), points, "x")
    compare(sf.MaxAbsScaler(inputCol="point", outputCol="x"), points, "x")
    compare(
        sf.ElementwiseProduct(inputCol="point", outputCol="x", scalingVec=Vectors.dense(1, 0, -2, 0.5)), points, "x"
    )
    for p in (1.0, 2.0, 3.5, INF):
        compare(sf.Normalizer(inputCol="point", outputCol="x", p=p), points, "x")


def test_elements_of_vectors_are_chosen(spark, points, whole):
    compare(sf.VectorSlicer(inputCol="point", outputCol="x", indices=[3, 0]), points, "x")
    named = sf.VectorAssembler(inputCols=["age", "pay", "floor"], outputCol="v").transform(whole)
    compare(sf.VectorSlicer(inputCol="v", outputCol="x", indices=[1], names=["floor", "age"]), named, "x")
    compare(sf.VarianceThresholdSelector(featuresCol="point", outputCol="x", varianceThreshold=0.1), points, "x")
    select = sf.UnivariateFeatureSelector(
        featuresCol="point", outputCol="x", labelCol="label", selectionMode="numTopFeatures"
    )
    compare(select.setFeatureType("continuous").setLabelType("categorical").setSelectionThreshold(2), points, "x")
    chosen = sf.ChiSqSelector(featuresCol="point", outputCol="x", labelCol="label", numTopFeatures=2)
    counts = spark.createDataFrame(
        [(Vectors.dense(0, 1, 2), 0.0), (Vectors.sparse(3, [1], [1.0]), 1.0)], ["point", "label"]
    )
    compare(chosen, counts, "x")
    with pytest.raises(InvalidValueError, match="length 1, and element 3"):
        local_stage(sf.VectorSlicer(inputCol="point", outputCol="x", indices=[3]), points).transform(
            LocalFrame.from_arrow(pa.table({"point": [[1.0]]}))
        )


def test_vectors_are_transformed(points):
    compare(sf.PCA(inputCol="point", outputCol="x", k=2), points, "x")
    for inverse in (True, False):
        compare(sf.DCT(inputCol="point", outputCol="x", inverse=inverse), points, "x")
    for degree in (1, 2, 3):
        compare(sf.PolynomialExpansion(inputCol="point", outputCol="x", degree=degree), points, "x")
    for handle in ("error", "skip", "optimistic"):
        compare(sf.VectorSizeHint(inputCol="point", size=4, handleInvalid=handle), points, "point")
    with pytest.raises(InvalidValueError, match="of length 4, they have 2"):
        local_stage(sf.VectorSizeHint(inputCol="point", size=4), points).transform(
            LocalFrame.from_arrow(pa.table({"point": [[1.0, 2.0]]}))
        )


def test_columns_interact(whole):
    indexed = sf.StringIndexer(inputCol="city", outputCol="i").fit(whole).transform(whole)
    vectors = sf.VectorAssembler(inputCols=["age", "i", "pay"], outputCol="v").transform(indexed)
    for columns in (["i", "age"], ["age", "pay", "floor"], ["v", "i"], ["age", "v"]):
        compare(sf.Interaction(inputCols=columns, outputCol="x"), vectors, "x")


# ---- text ----------------------------------------------------------------------------------------------------------


def test_texts_are_split(people):
    compare(sf.Tokenizer(inputCol="note", outputCol="x"), people, "x")
    for options in (
        {},
        {"pattern": r"\W+", "toLowercase": False},
        {"pattern": r"[a-z]+", "gaps": False},
        {"pattern": r"(?:fox|dog)", "minTokenLength": 0},
        {"pattern": r"\s", "minTokenLength": 0},
        {"pattern": r"\s|é", "minTokenLength": 3},
        {"pattern": r"\w{2,3}?", "gaps": False},
    ):
        compare(sf.RegexTokenizer(inputCol="note", outputCol="x", **options), people, "x")
    for pattern in (r"a.b", r"^a", r"a$", r"(a)b", r"a*+", r"[a&&b]", r"\p{Alpha}", r"\bfox", r"a{2}+"):
        with pytest.raises(InvalidTypeError, match="in Spark only with the pattern"):
            local_stage(sf.RegexTokenizer(inputCol="note", outputCol="x", pattern=pattern), people)
    missing = people.withColumn("note", F.lit(None).cast("string"))
    assert_fail_alike(sf.Tokenizer(inputCol="note", outputCol="x"), "x", missing)


@pytest.fixture(scope="module")
def words(people):
    df = sf.Tokenizer(inputCol="note", outputCol="words").transform(people)
    return df.withColumn(
        "words", F.when(F.col("label") == 0, F.concat("words", F.array(F.lit(None)))).otherwise(F.col("words"))
    )


def test_words_are_left_out_and_joined(words):
    some = words.where("label = 1")
    compare(sf.StopWordsRemover(inputCol="words", outputCol="x"), words, "x")
    compare(
        sf.StopWordsRemover(inputCol="words", outputCol="x", stopWords=["Fox", "dog"], caseSensitive=True), words, "x"
    )
    compare(sf.StopWordsRemover(inputCols=["words"], outputCols=["x"], stopWords=["Fox", "dog"]), words, "x")
    for n in (1, 2, 4):
        compare(sf.NGram(inputCol="words", outputCol="x", n=n), some, "x")
    with pytest.raises(InvalidTypeError, match="locale"):
        local_stage(sf.StopWordsRemover(inputCol="words", outputCol="x", locale="tr"), words)


def test_words_are_counted(words):
    some = words.where("label = 1")
    for binary in (True, False):
        compare(sf.HashingTF(inputCol="words", outputCol="x", binary=binary), words, "x")
        compare(sf.HashingTF(inputCol="words", outputCol="x", binary=binary, numFeatures=3), words, "x")
        for least in (1.0, 2.0, 0.3):
            compare(
                sf.CountVectorizer(inputCol="words", outputCol="x", binary=binary, minTF=least), some, "x", on=words
            )
    hashed = sf.HashingTF(inputCol="words", outputCol="tf", numFeatures=50).transform(words)
    made = compare(sf.IDF(inputCol="tf", outputCol="x", minDocFreq=1), hashed, "x")
    assert type(made.transform(to_local(hashed)).column("x")).__name__ == "SparseVectors"
    vectors = sf.Word2Vec(inputCol="words", outputCol="x", vectorSize=3, minCount=1, seed=1)
    compare(vectors, some, "x", on=words)


def test_columns_are_hashed(people):
    names = ["city", "age", "floor", "pay", "member"]
    for options in ({}, {"numFeatures": 7}, {"categoricalCols": ["floor", "pay"]}):
        compare(sf.FeatureHasher(inputCols=names, outputCol="x", **options), people, "x")


# ---- predictors ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classes(spark):
    """Points of three classes."""
    rng = np.random.default_rng(3)
    rows = [(Vectors.dense(*rng.normal(label, 1.0, 3)), float(label)) for label in (0, 1, 2) for _ in range(20)]
    rows.append((Vectors.sparse(3, [1], [0.5]), 0.0))
    return spark.createDataFrame(rows, ["features", "label"]).repartition(1).cache()


def test_linear_models_predict(classes):
    two = classes.where("label < 2")
    compare(LinearRegression(regParam=0.1, maxIter=5), classes, "prediction")
    models = [
        (LogisticRegression(maxIter=5), two),
        (LogisticRegression(maxIter=5, threshold=0.8), two),
        (LogisticRegression(maxIter=5, threshold=1.0), two),
        (LogisticRegression(maxIter=5, thresholds=[0.3, 0.7]), two),
        (LogisticRegression(maxIter=5, family="multinomial"), two),
        (LogisticRegression(maxIter=5), classes),
        (LogisticRegression(maxIter=5, thresholds=[0.1, 0.6, 0.0]), classes),
    ]
    for estimator, df in models:
        for output in ("rawPrediction", "probability", "prediction"):
            compare(estimator, df, output)
    for threshold in (0.0, 0.7):
        for output in ("rawPrediction", "prediction"):
            compare(LinearSVC(maxIter=5, threshold=threshold), two, output)
    made = local_stage(LogisticRegression(maxIter=1, probabilityCol="").fit(two), two)
    assert made.outputs == ("rawPrediction", "prediction") and "" not in made.transform(to_local(two)).columns


def test_the_nearest_centre_is_found(classes):
    for measure in ("euclidean", "cosine"):
        compare(KMeans(k=4, seed=1, distanceMeasure=measure), classes, "prediction")


# ---- several -------------------------------------------------------------------------------------------------------


def test_formulas(people, whole):
    for formula in (
        "label ~ city + age + floor",
        "label ~ city:age + pay",
        "label ~ . - note - member",
        "city ~ age + note",
    ):
        made = compare(sf.RFormula(formula=formula, featuresCol="x", labelCol="y", handleInvalid="keep"), whole, "x")
        unlabelled = to_local(whole).without(["label"] if formula.startswith("label") else ["city"])
        assert "x" in made.transform(unlabelled).columns
        assert not [name for name in made.transform(unlabelled).columns if name not in {*whole.columns, "x", "y"}]


def test_pipelines(people, whole):
    stages = [
        sf.StringIndexer(inputCol="city", outputCol="i", handleInvalid="skip"),
        sf.Imputer(inputCols=["age"], outputCols=["a"]),
        sf.OneHotEncoder(inputCols=["i"], outputCols=["o"]),
        Pipeline(stages=[sf.VectorAssembler(inputCols=["o", "a", "pay"], outputCol="v", handleInvalid="skip")]),
        sf.StandardScaler(inputCol="v", outputCol="x", withMean=True),
    ]
    made = compare(Pipeline(stages=stages), whole, "x", on=people)
    assert made.inputs == ("city", "age", "pay") and made.outputs == ("i", "a", "o", "v", "x")
    assert made.transform(to_local(people)).positions.tolist() == [0, 1, 2, 4, 5]
    wide = [sf.Tokenizer(inputCol="note", outputCol="w"), sf.HashingTF(inputCol="w", outputCol="h")]
    wide.append(sf.VectorAssembler(inputCols=["pay", "h"], outputCol="x"))
    compare(Pipeline(stages=wide), people, "x")


def test_what_stays_in_spark_says_why(spark, points):
    for name in REFUSED:
        assert name not in SUPPORTED
    with pytest.raises(InvalidTypeError, match=r"SQLTransformer works in Spark only.*dialect"):
        local_stage(sf.SQLTransformer(statement="SELECT * FROM __THIS__"), points)
    with pytest.raises(InvalidTypeError, match="MinHashLSHModel works in Spark only: it makes keys"):
        local_stage(sf.MinHashLSH(inputCol="point", outputCol="x").fit(points.where("label > 5").union(points)), points)
    exported = {name for name in sf.__all__ if name.endswith("Model")}
    transformers = {
        name for name in sf.__all__ if hasattr(getattr(sf, name), "transform") and not hasattr(getattr(sf, name), "fit")
    }
    assert exported | transformers <= set(SUPPORTED) | set(REFUSED)


def test_the_document_names_them_all():
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
    named = set(re.findall(r"`(\w+)`", page))
    assert {*SUPPORTED, *REFUSED} <= named
    for name, reason in REFUSED.items():
        assert f"| `{name}` | {reason} |" in page


def test_only_numpy_and_arrow_are_imported():
    program = """
import sys
import raydp_ml.serving.classes
from raydp_ml.serving.columns import LocalFrame
heavy = {"pyspark", "py4j", "ray", "sklearn", "pandas", "scipy", "torch", "xgboost"}
print(*sorted(heavy & {name.split(".")[0] for name in sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_what_is_no_written_stage_is_refused():
    for wrong in ({}, {"stage": "object", "fields": {}}, {"stage": "Scale", "fields": {"no": 1}}, {"stage": "Chain"}):
        with pytest.raises(InvalidValueError):
            from_plain(wrong)


def test_columns_of_a_wrong_kind_are_errors():
    frame = LocalFrame.from_arrow(pa.table({"a": ["x"], "v": [[1.0, 2.0]], "w": pa.array([["b"], ["b", "c"]][:1])}))
    for read, match in (
        (lambda: frame.column("b"), "no column 'b'; there are 'a', 'v', 'w'"),
        (lambda: frame.numbers("a"), "'a' must have numbers, it has string"),
        (lambda: frame.vectors("a"), "'a' must have vectors"),
        (lambda: frame.tokens("a"), "'a' must have lists of strings"),
        (lambda: frame.strings("v"), "'v' must have strings"),
    ):
        with pytest.raises((InvalidTypeError, InvalidValueError), match=match):
            read()
    with pytest.raises(InvalidValueError, match="one length"):
        LocalFrame.from_arrow(pa.table({"v": [[1.0], [1.0, 2.0]]})).vectors("v")
