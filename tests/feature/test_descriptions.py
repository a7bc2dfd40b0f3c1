"""Descriptions of Spark ML stages are written down, changed, copied, compared and pickled without a session and without Java."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import subprocess
import sys

import cloudpickle
import numpy as np
import pytest
from pyspark import keyword_only
from pyspark.ml import Estimator, Model, Transformer
from pyspark.ml.linalg import DenseMatrix, DenseVector, SparseMatrix, SparseVector
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasInputCol
from sklearn.base import clone
from sklearn.utils import estimator_html_repr

from raydp_ml import feature
from raydp_ml.errors import InvalidTypeError, InvalidValueError, SessionStoppedError
from raydp_ml.feature import (
    Binarizer,
    ElementwiseProduct,
    Imputer,
    Pipeline,
    Stage,
    StandardScaler,
    StringIndexer,
    UnivariateFeatureSelector,
    VectorAssembler,
    describe,
)
from raydp_ml.feature.ml import ALS, GBTRegressor, LogisticRegression, OneVsRest
from raydp_ml.feature.stage import from_dict

EVERY = [getattr(feature, name) for name in feature.__all__ if name not in ("Stage", "describe")]
EVERY += [getattr(feature.ml, name) for name in feature.ml.__all__ if name != "Pipeline"]


class Clip(Transformer, HasInputCol):
    """A user's own Transformer in PySpark's usual form."""

    upper = Param(Params._dummy(), "upper", "values above become this", TypeConverters.toFloat)

    @keyword_only
    def __init__(self, *, inputCol=None, upper=1.0):
        super().__init__()
        self._setDefault(upper=1.0)
        self._set(**self._input_kwargs)

    def _transform(self, dataset):
        raise NotImplementedError


class Apply(Transformer):
    """A user's own Transformer with an argument that is no Param."""

    def __init__(self, function, times=2):
        super().__init__()
        self.function, self.times = function, times

    def _transform(self, dataset):
        raise NotImplementedError


class Anything(Transformer):
    def __init__(self, **kwargs):
        super().__init__()
        self.kwargs = kwargs

    def _transform(self, dataset):
        raise NotImplementedError


class Learnt(Model):
    def _transform(self, dataset):
        raise NotImplementedError


def resolve(name: str) -> type:
    module, _, attribute = name.rpartition(".")
    return getattr(sys.modules[module], attribute)


def nested() -> Stage:
    return Pipeline(
        stages=[
            StringIndexer(inputCol="a", outputCol="b"),
            OneVsRest(classifier=LogisticRegression(maxIter=3, lowerBoundsOnIntercepts=[0.5])),
        ]
    )


def test_importing_them_starts_nothing_and_imports_late():
    program = """
import sys, raydp_ml
raydp_ml.feature, dir(raydp_ml)
assert "pyspark" not in sys.modules
from raydp_ml.feature import VectorAssembler
import raydp_ml.feature.ml as ml
pipe = ml.Pipeline(stages=[VectorAssembler(inputCols=["a"]), ml.LogisticRegression()])
from pyspark import SparkContext
assert SparkContext._gateway is None and SparkContext._active_spark_context is None
assert "ray" not in sys.modules
print(pipe)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "Pipeline(stages=[VectorAssembler(inputCols=['a']), LogisticRegression()])"


def test_the_modules_list_what_pyspark_has():
    import pyspark.ml.feature as theirs

    exported = {name for name in theirs.__all__ if not name.endswith("Model")}
    assert exported | {"Pipeline", "Stage", "describe"} == set(feature.__all__)
    assert exported <= set(dir(feature))
    others = {
        "Pipeline",
        "LogisticRegression",
        "RandomForestClassifier",
        "LinearRegression",
        "KMeans",
        "ALS",
        "FPGrowth",
    }
    assert others <= set(feature.ml.__all__)
    assert not {"Transformer", "JavaTransformer", "CrossValidator", "KMeansModel"} & set(feature.ml.__all__)
    assert feature.ml.Pipeline is Pipeline and feature.ml.__all__ == [
        n for n in dir(feature.ml) if n in feature.ml.__all__
    ]
    for name, why in {
        "StringIndexerModel": "made by fitting",
        "CrossValidator": "GridSearch",
        "NoSuchThing": "NoSuchThing",
    }.items():
        with pytest.raises(AttributeError, match=why):
            getattr(feature, name)


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_every_class_follows_the_rules(kind):
    stage = kind()
    theirs = inspect.signature(kind.spark_class).parameters
    ours = inspect.signature(kind).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    assert list(inspect.signature(kind.__init__).parameters)[1:] == list(ours)
    members = [getattr(kind.spark_class, name) for name in dir(kind.spark_class)]
    params = {member.name for member in members if isinstance(member, Param)}
    values = stage.get_params()
    assert set(values) == set(ours) == params | set(theirs)
    assert values == {name: shown.default for name, shown in ours.items()} or kind is Imputer  # has nan
    assert kind.is_estimator == issubclass(kind.spark_class, Estimator)
    assert repr(stage) == f"{kind.__name__}()"
    assert kind.spark_class.__name__ in kind.__doc__ and "spark.apache.org/docs" in kind.__doc__
    assert all(f"\n{name} : " in kind.__doc__ for name in ours)
    assert stage.to_dict() == {"class": f"{kind.spark_class.__module__}.{kind.__name__}", "params": {}}
    assert kind(**values) == stage
    if (
        kind.__name__ != "StopWordsRemover"
    ):  # its constructor needs Java, so that what is given is kept even if it looks like a default
        assert kind(**values).to_dict() == stage.to_dict()
    for twin in (clone(stage), stage.copy(), copy.deepcopy(stage), pickle.loads(pickle.dumps(stage))):
        assert twin is not stage and twin == stage and type(twin) is kind
    assert pickle.loads(pickle.dumps(kind)) is kind
    assert kind.__name__ in estimator_html_repr(stage)
    with pytest.raises(InvalidTypeError, match=f"{kind.__name__} has no parameter 'no_such'.*{next(iter(ours))}"):
        kind(no_such=1)
    for name, parameter in kind._parameters.by_name.items():
        if parameter.type_name:
            with pytest.raises(InvalidTypeError, match=f"{name} of {kind.__name__}"):
                kind(**{name: object()})


def test_defaults_are_those_that_the_constructor_sets():
    # The signature of Spark says 0.1, and its constructor sets another value.
    assert inspect.signature(GBTRegressor.spark_class).parameters["validationTol"].default == 0.1
    assert GBTRegressor().validationTol == 0.01
    assert GBTRegressor(validationTol=0.1).to_dict()["params"] == {"validationTol": 0.1}
    # Spark has setters only for these.
    assert ALS().predictionCol == "prediction" and "predictionCol" not in inspect.signature(ALS.spark_class).parameters
    assert UnivariateFeatureSelector(featureType="continuous").featureType == "continuous"
    # Names made of an object's id and seeds are the object's own.
    assert VectorAssembler().outputCol is None and GBTRegressor().seed is None
    assert np.isnan(Imputer().missingValue) and Imputer() == Imputer(missingValue=float("nan")) == pickle.loads(
        pickle.dumps(Imputer())
    )


def test_values_are_checked_and_kept_as_spark_keeps_them():
    vec = VectorAssembler(inputCols=("a", "b"), outputCol=np.str_("c"))
    assert vec.get_params() == {"inputCols": ["a", "b"], "outputCol": "c", "handleInvalid": "error"}
    assert type(vec.outputCol) in (str, np.str_)
    given = ["a"]
    vec = VectorAssembler(inputCols=given)
    vec.copy().inputCols.append("c")
    assert vec.inputCols == ["a"]
    assert Binarizer(threshold=1).threshold == 1.0 and type(Binarizer(threshold=1).threshold) is float
    assert ElementwiseProduct(scalingVec=[1, 2]).scalingVec == DenseVector([1.0, 2.0])
    for wrong in ({"inputCols": "a"}, {"inputCols": [1]}, {"outputCol": 1}, {"handleInvalid": True}):
        with pytest.raises(TypeError, match="Spark: Could not convert") as caught:
            VectorAssembler(**wrong)
        assert isinstance(caught.value, InvalidTypeError) and repr(next(iter(wrong.values()))) in str(caught.value)
    with pytest.raises(TypeError, match="withMean of StandardScaler: 1 is no bool"):
        StandardScaler(withMean=1)
    with pytest.raises(TypeError):
        VectorAssembler(["a"])


def test_parameters_are_attributes_and_change():
    scaler = StandardScaler(inputCol="a", withMean=True)
    assert scaler.set_params(withStd=False, inputCol="b") is scaler
    assert (scaler.withStd, scaler.inputCol, scaler.withMean) == (False, "b", True)
    scaler.withMean = False
    assert (
        scaler == StandardScaler(inputCol="b", withStd=False)
        and repr(scaler) == "StandardScaler(inputCol='b', withStd=False)"
    )
    assert scaler.set_params(inputCol=None, withStd=None) == StandardScaler()
    before = scaler.get_params()
    for wrong, error in (
        ({"foo": 1}, InvalidValueError),
        ({"withMean": 3}, InvalidTypeError),
        ({"inputCol__x": 3}, InvalidValueError),
    ):
        with pytest.raises(error):
            scaler.set_params(**{"outputCol": "changed", **wrong})
        assert scaler.get_params() == before
    with pytest.raises(AttributeError, match="has no parameter 'withmean'"):
        scaler.withmean = True
    with pytest.raises(AttributeError, match="to_spark"):
        scaler.setInputCol("a")
    assert "withMean" in dir(scaler) and not hasattr(scaler, "fit")


def test_equality_looks_at_class_and_values():
    assert VectorAssembler(inputCols=["a"]) == VectorAssembler(inputCols=["a"], handleInvalid="error")
    assert VectorAssembler(inputCols=["a"]) != VectorAssembler(inputCols=["b"])
    assert StandardScaler() != VectorAssembler() and StandardScaler() != "passthrough"
    assert len({StandardScaler(), StandardScaler(), StandardScaler(withMean=True)}) == 2
    one = LogisticRegression(lowerBoundsOnCoefficients=DenseMatrix(1, 2, [1, 2]))
    assert one != LogisticRegression() and one == clone(one)
    assert one != LogisticRegression(lowerBoundsOnCoefficients=DenseMatrix(1, 2, [1, 3]))


def test_stages_are_values_of_stages():
    pipe = nested()
    assert eval(repr(nested().set_params(stages__1__classifier__lowerBoundsOnIntercepts=None))) != pipe
    params = pipe.get_params()
    assert params["stages__1__classifier__maxIter"] == 3 and params["stages__0"] == StringIndexer(
        inputCol="a", outputCol="b"
    )
    assert set(pipe.get_params(deep=False)) == {"stages"}
    twin = clone(pipe)
    inner = pipe.stages[1].classifier
    pipe.set_params(stages__0__outputCol="c", stages__1__classifier__maxIter=5)
    assert inner.maxIter == 5 and pipe.stages[0].outputCol == "c"
    assert twin == nested() != pipe
    pipe.set_params(stages__0=VectorAssembler(inputCols=["a"]), stages__1__classifier=LogisticRegression())
    assert pipe == Pipeline(stages=[VectorAssembler(inputCols=["a"]), OneVsRest(classifier=LogisticRegression())])
    for wrong in ("stages__2__inputCol", "stages__0__foo", "stages__x", "stages__1__classifier__foo"):
        with pytest.raises(InvalidValueError, match="has no parameter"):
            pipe.set_params(**{wrong: "a"})
    for wrong in (VectorAssembler(), [VectorAssembler], ["a"], [Learnt()]):
        with pytest.raises(InvalidTypeError):
            Pipeline(stages=wrong)
    with pytest.raises(InvalidTypeError, match="classifier of OneVsRest"):
        OneVsRest(classifier="logistic")
    assert "LogisticRegression" in estimator_html_repr(pipe)


def test_no_other_param_of_spark_holds_stages():
    """Spark gives Params that hold stages no converter; of those with none, one other is known."""
    free = {
        (kind.__name__, name)
        for kind in EVERY
        for name, parameter in kind._parameters.by_name.items()
        if parameter.param.typeConverter is TypeConverters.identity
    }
    assert free == {("Pipeline", "stages"), ("OneVsRest", "classifier"), ("RegexTokenizer", "gaps")}


def test_the_plain_form_is_json_and_comes_back():
    stages = [
        nested(),
        ElementwiseProduct(scalingVec=SparseVector(3, [1], [2.0])),
        LogisticRegression(lowerBoundsOnCoefficients=DenseMatrix(2, 1, [1, 2]), thresholds=[0.5, 0.5]),
        LogisticRegression(upperBoundsOnCoefficients=SparseMatrix(2, 2, [0, 1, 1], [1], [3.0])),
        Imputer(missingValue=-1.0, inputCols=["a"]),
        describe(Clip, upper=3),
    ]
    for stage in stages:
        plain = json.loads(json.dumps(stage.to_dict(), allow_nan=False))
        assert from_dict(plain, resolve) == stage
    asked = []
    from_dict(nested().to_dict(), lambda name: asked.append(name) or resolve(name))
    assert [name.rpartition(".")[2] for name in asked] == [
        "Pipeline",
        "StringIndexer",
        "OneVsRest",
        "LogisticRegression",
    ]
    with pytest.raises(InvalidTypeError, match="function of Apply"):
        describe(Apply, function=abs).to_dict()
    for wrong in (
        {"class": "pyspark.ml.feature.Binarizer"},
        {"class": "pyspark.ml.feature.Binarizer", "params": {"foo": 1}},
        {"class": "pyspark.ml.feature.Binarizer", "params": {"threshold": {"$vector": {}}}},
        {"class": "pyspark.ml.feature.Binarizer", "params": {"threshold": {"$object": {}}}},
        {"class": "pyspark.ml.feature.BucketizerModel", "params": {}},
    ):
        with pytest.raises((InvalidValueError, AttributeError)):
            from_dict(wrong, resolve)
    with pytest.raises(InvalidValueError, match="must be a Transformer or Estimator"):
        from_dict({"class": "subprocess.Popen", "params": {}}, resolve)


def test_users_own_stages():
    clip = describe(Clip, inputCol="a", upper=2)
    assert clip.get_params() == {"inputCol": "a", "upper": 2.0} and repr(clip) == "Clip(inputCol='a', upper=2.0)"
    assert describe(Clip) == describe(Clip, upper=1.0) and type(describe(Clip)) is type(clip) and not clip.is_estimator
    # Python alone: no session is needed for the real one, and none runs here.
    real = clip.to_spark()
    assert type(real) is Clip and real.getInputCol() == "a" and real.getOrDefault("upper") == 2.0
    assert describe(real) == clip == describe(clip) and describe(real, upper=3) == clone(clip).set_params(upper=3)
    assert pickle.loads(cloudpickle.dumps(clip)) == clip
    with pytest.raises(InvalidTypeError, match="upper of Clip"):
        describe(Clip, upper="high")

    by_function = describe(Apply, function=abs)
    assert by_function.to_spark().function is abs and by_function.times == 2
    assert describe(Apply, function=abs, times=None).to_spark().times is None
    with pytest.raises(InvalidTypeError, match="Apply needs a value for function"):
        describe(Apply)
    with pytest.raises(InvalidTypeError, match=r"function, times.*describe\(Apply"):
        describe(Apply(abs))

    anything = describe(Anything, some=1).set_params(other=2)
    assert anything.get_params() == {"some": 1, "other": 2} and anything.other == 2
    assert anything.to_spark().kwargs == {"some": 1, "other": 2}

    assert Pipeline(stages=[real]) == Pipeline(stages=[clip])
    assert [type(stage) for stage in Pipeline(stages=[clip, by_function]).to_spark().getStages()] == [Clip, Apply]


@pytest.mark.parametrize("wrong", [Learnt, Learnt(), dict, 3, Params], ids=str)
def test_what_is_no_stage_is_refused(wrong):
    with pytest.raises(InvalidTypeError):
        describe(wrong)
    with pytest.raises(InvalidTypeError):
        Stage()


def test_without_a_session_the_error_says_what_to_do():
    from pyspark import SparkContext

    if SparkContext._active_spark_context is not None:
        pytest.skip("another module's session runs in this process")
    for stage in (VectorAssembler(inputCols=["a"]), nested(), OneVsRest(classifier=LogisticRegression())):
        with pytest.raises(SessionStoppedError, match="init_spark"):
            stage.to_spark()
