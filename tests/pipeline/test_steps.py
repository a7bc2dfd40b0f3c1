"""The kinds of steps: each is recognised, copied, fitted, applied, described, saved and pickled in its own way."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.ml.linalg import Vectors
from sklearn.cluster import KMeans as ClusterByMean
from sklearn.preprocessing import StandardScaler

import raydp_ml
from raydp_ml import GridSearch, SparkRayPipeline, feature
from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.persistence.metadata import sealed
from raydp_ml.pipeline.steps import KINDS, FeatureStep, apply_steps, fit_final, fit_steps, step_of
from tests.people import halve_pay, make_model

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def assembler(**params: Any) -> Any:
    from pyspark.ml.feature import VectorAssembler

    return VectorAssembler(**{"inputCols": ["age", "pay"], "outputCol": "v", **params})


def indexer() -> Any:
    from pyspark.ml.feature import StringIndexer

    return StringIndexer(inputCol="city", outputCol="n")


def program() -> Any:
    from pyspark.ml.feature import SQLTransformer

    return SQLTransformer(statement="SELECT *, age * 2 AS twice FROM __THIS__")


@dataclass(frozen=True)
class Case:
    """A step, and what is expected of it; ``last`` makes the last column of a row from the others."""

    make: Callable[[], Any]
    kind: str
    title: str
    detail: str
    last: Callable[[Any], Any]
    adds: list[str] = field(default_factory=list)
    vector: str | None = None
    learns: bool = False
    row_wise: bool = False
    params: dict[str, Any] = field(default_factory=dict)
    trusted: tuple[Any, ...] = ()


CASES = [
    Case(lambda: "passthrough", "passthrough", "passthrough", "passthrough", lambda row: row.label, row_wise=True),
    Case(lambda: None, "passthrough", "passthrough", "passthrough", lambda row: row.label, row_wise=True),
    Case(
        lambda: "SELECT *, age + 1 AS older FROM __THIS__",
        "sql",
        "SQL",
        "SELECT *, age + 1 AS older FROM __THIS__",
        lambda row: row.age + 1,
        adds=["older"],
        trusted=("sql",),
    ),
    Case(
        lambda: halve_pay,
        "function",
        "halve_pay()",
        "Add a column",
        lambda row: row.pay / 2,
        adds=["half"],
        trusted=("tests.people.halve_pay",),
    ),
    Case(
        assembler,
        "spark",
        "VectorAssembler",
        "VectorAssembler(\n    inputCols=['age', 'pay'],\n    outputCol='v'\n)",
        lambda row: Vectors.dense(row.age, row.pay),
        adds=["v"],
        vector="v",
        row_wise=True,
        params={"outputCol": "v", "handleInvalid": "error"},
    ),
    Case(
        indexer,
        "spark",
        "StringIndexer",
        "inputCol='city'",
        lambda row: float(["Oslo", "Rome", "Lima"].index(row.city)),
        adds=["n"],
        learns=True,
        params={"outputCol": "n", "inputCols": None},
    ),
    Case(
        program,
        "spark",
        "SQLTransformer",
        "statement=",
        lambda row: row.age * 2,
        adds=["twice"],
        params={"statement": "SELECT *, age * 2 AS twice FROM __THIS__"},
        trusted=("sql",),
    ),
    Case(
        lambda: feature.VectorAssembler(inputCols=["age", "pay"], outputCol="v"),
        "description",
        "VectorAssembler",
        "inputCols=['age', 'pay']",
        lambda row: Vectors.dense(row.age, row.pay),
        adds=["v"],
        vector="v",
        row_wise=True,
        params={"outputCol": "v", "handleInvalid": "error"},
    ),
    Case(
        lambda: feature.StringIndexer(inputCol="city", outputCol="n"),
        "description",
        "StringIndexer",
        "inputCol='city'",
        lambda row: float(["Oslo", "Rome", "Lima"].index(row.city)),
        adds=["n"],
        learns=True,
        params={"outputCol": "n", "inputCols": None},
    ),
    Case(
        lambda: feature.SQLTransformer(statement="SELECT *, age * 2 AS twice FROM __THIS__"),
        "description",
        "SQLTransformer",
        "statement=",
        lambda row: row.age * 2,
        adds=["twice"],
        params={"statement": "SELECT *, age * 2 AS twice FROM __THIS__"},
        trusted=("sql",),
    ),
]
NAMES = [
    "passthrough",
    "none",
    "sql",
    "function",
    "transformer",
    "learner",
    "program",
    "described transformer",
    "described learner",
    "described program",
]
each_feature_step = pytest.mark.parametrize("case", CASES, ids=NAMES)


def shown(value: Any) -> Any:
    """What tells two steps apart: Spark's stages have no equality of their own."""
    return (type(value), step_of(value).get_params()) if hasattr(value, "params") else value


@each_feature_step
def test_a_feature_step(case: Case, people_df: DataFrame) -> None:
    step = step_of(case.make())
    assert isinstance(step, FeatureStep)
    assert (step.kind, step.learns, step.row_wise) == (case.kind, case.learns, case.row_wise)
    title, detail = step.describe()
    assert title == case.title
    assert case.detail in detail
    params = step.get_params()
    assert {name: params[name] for name in case.params} == case.params
    assert bool(params) is bool(case.params)

    fitted, frame, vector = fit_steps([("it", step.value)], people_df)
    assert frame.columns == [*people_df.columns, *case.adds]
    assert vector == case.vector
    again = apply_steps(fitted, people_df)
    assert again.columns == frame.columns
    for rows in (frame.collect(), again.collect()):
        assert [row[-1] for row in rows] == [case.last(row) for row in rows]


@each_feature_step
def test_a_copy_and_a_fit_share_no_parameters_with_the_step(case: Case, people_df: DataFrame) -> None:
    step = step_of(case.make())
    copy, fitted = step.copy(), fit_steps([("it", step.value)], people_df)[0][0][1]
    assert shown(copy) == shown(step.value)
    if case.params:
        name = next(iter(case.params))
        step.set_params("it", {name: "changed __THIS__"})
        assert step.get_params()[name] == "changed __THIS__"
        assert step_of(copy).get_params()[name] == case.params[name]
        assert step_of(fitted).get_params()[name] == case.params[name]
    else:
        with pytest.raises(InvalidValueError, match=rf"'it' is a {case.kind} step and has no parameters.*it__x"):
            step.set_params("it", {"x": 1})


@each_feature_step
@pytest.mark.parametrize("way", ["saved", "pickled"])
@pytest.mark.parametrize("fit", [False, True])
def test_it_comes_back(case: Case, way: str, fit: bool, people_df: DataFrame, tmp_path: Path) -> None:
    pipe = SparkRayPipeline([("it", case.make()), ("end", "passthrough")])
    if fit:
        pipe.fit(people_df)
    if way == "saved":
        pipe.save(tmp_path / "pipe")
        back = raydp_ml.load(tmp_path / "pipe", trusted=case.trusted)
    else:
        back = pickle.loads(pickle.dumps(pipe))
    given = case.make()
    expected = "passthrough" if given is None and way == "saved" else given
    assert shown(back.steps[0][1]) == shown(expected)
    assert hasattr(back, "steps_") is fit
    if fit:
        assert back.vector_column_ == case.vector
        rows = back.transform(people_df).collect()
        assert [row[-1] for row in rows] == [case.last(row) for row in rows]


class TestEstimator:
    def test_parameters_and_copies(self) -> None:
        step = step_of(make_model(max_depth=3))
        assert (step.kind, step.draws_itself, step.describe()[0]) == ("estimator", True, "XGBEstimator")
        copy = step.copy()
        step.set_params("model", {"max_depth": 7})
        assert (step.get_params()["max_depth"], copy.max_depth) == (7, 3)

    def test_it_is_fitted_as_a_new_object_on_the_vector_column(self, people_df: DataFrame) -> None:
        model = make_model()
        _, frame, vector = fit_steps([("vec", assembler())], people_df)
        name, fitted = fit_final(("model", model), frame, vector)
        assert name == "model"
        assert fitted.feature_names_in_.tolist() == ["age", "pay"]
        assert not model.__sklearn_is_fitted__()
        back = pickle.loads(pickle.dumps(SparkRayPipeline([("vec", assembler()), ("model", model)])))
        assert back.final_estimator.get_params() == model.get_params()

    def test_it_is_no_feature_step_and_a_feature_step_is_no_estimator(self, people_df: DataFrame) -> None:
        with pytest.raises(InvalidTypeError, match="'model', a XGBEstimator, is an estimator and must be the last"):
            fit_steps([("model", make_model())], people_df)
        with pytest.raises(InvalidTypeError, match="'vec', a VectorAssembler, is no estimator"):
            fit_final(("vec", assembler()), people_df, None)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (ClusterByMean(), InvalidTypeError, "KMeans is neither a classifier nor a regressor"),
        (StandardScaler(), InvalidTypeError, r"StandardScaler is a scikit-learn transformer, .*pyspark\.ml\.feature"),
        (SparkRayPipeline([]), InvalidTypeError, "a SparkRayPipeline cannot be a step.*its own steps"),
        (GridSearch(make_model(), {}), InvalidTypeError, r"a GridSearch cannot be a step.*GridSearch\(pipeline"),
        (StandardScaler, InvalidTypeError, r"got the class StandardScaler; write StandardScaler\("),
        ("SELECT 1", InvalidValueError, "reads from __THIS__"),
        (3, InvalidTypeError, "a step must be .*; got 3"),
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_what_is_no_step_is_refused_with_a_reason(
    value: Any, error: type[Exception], message: str, last: bool, people_df: DataFrame
) -> None:
    with pytest.raises(error, match=message):
        step_of(value)
    others: list[tuple[str, Any]] = [("other", "passthrough")]
    with pytest.raises(error, match=message):
        SparkRayPipeline([*others, ("it", value)] if last else [("it", value), *others]).fit(people_df)


def test_the_names_of_the_kinds_in_saved_directories_stay() -> None:
    # Directories of format version 1 name these.
    assert {"passthrough", "sql", "spark", "estimator", "function"} <= {kind.kind for kind in KINDS}
    assert len({kind.kind for kind in KINDS}) == len(KINDS)


def test_an_unknown_kind_in_a_saved_directory_is_told(spark: SparkSession, tmp_path: Path) -> None:
    SparkRayPipeline([("it", "passthrough")]).save(tmp_path / "pipe")
    file = tmp_path / "pipe" / "metadata.json"
    changed = file.read_text().replace('"kind": "passthrough"', '"kind": "later"')
    file.write_text(json.dumps(sealed(json.loads(changed))))
    with pytest.raises(InvalidValueError, match="there is no kind of step 'later'; there are passthrough, sql"):
        raydp_ml.load(tmp_path / "pipe")


def test_the_vector_column_is_the_last_that_a_step_made_or_wrote_anew(people_df: DataFrame) -> None:
    from pyspark.ml import Transformer
    from pyspark.ml.param.shared import HasOutputCol

    class Again(Transformer, HasOutputCol):
        def _transform(self, dataset: DataFrame) -> DataFrame:
            return dataset.withColumn(self.getOutputCol(), dataset["w"])

    again = Again()
    again._set(outputCol="v")
    two = "SELECT *, v AS w FROM __THIS__"
    steps: list[tuple[str, Any]] = [("vec", assembler()), ("two", two), ("again", again), ("end", "passthrough")]
    assert [fit_steps(steps[:count], people_df)[2] for count in range(5)] == [None, "v", "w", "v", "v"]
