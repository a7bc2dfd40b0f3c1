"""The parameters that the three estimators have in common are the same: in name, default and order."""

from __future__ import annotations

import ast
import inspect
import re
from itertools import pairwise

import pytest

import raydp_ml
from docs.parameters import COMMON as DOCUMENTED
from docs.parameters import SOURCES, documented

ESTIMATORS = ["TorchEstimator", "TFEstimator", "XGBEstimator"]
# What a program gives to any of them.
COMMON = {
    "class_weight": None,
    "task": None,
    "feature_columns": None,
    "label_column": None,
    "weight_column": None,
    "validation": None,
    "prediction_column": "prediction",
    "probability_column": "probability",
    "null_features": "error",
    "num_workers": None,
    "use_gpu": False,
    "resources_per_worker": None,
    "scaling_config": None,
    "run_config": None,
    "storage_path": None,
    "checkpoint_every": None,
    "max_retries": 3,
    "sparse": "auto",
    "warm_start": False,
    "random_state": None,
    "verbose": True,
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_common_parameters_agree(name: str) -> None:
    parameters = inspect.signature(getattr(raydp_ml, name)).parameters
    found = {key: parameter.default for key, parameter in parameters.items() if key in COMMON}
    assert list(found.items()) == list(COMMON.items())


@pytest.mark.parametrize("names", list(pairwise(ESTIMATORS)), ids="-".join)
def test_what_two_estimators_share_has_one_default_and_one_order(names: tuple[str, str]) -> None:
    first, second = (inspect.signature(getattr(raydp_ml, name)).parameters for name in names)
    shared = [key for key in first if key in second]
    assert [key for key in second if key in first] == shared
    alike = [key for key in shared if key != "loss"]  # TorchEstimator may find it in a net of skorch
    assert {key: first[key].default for key in alike} == {key: second[key].default for key in alike}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_each_parameter_is_documented(name: str) -> None:
    kind = getattr(raydp_ml, name)
    text = inspect.getdoc(kind) or ""
    section = text[text.index("Parameters\n") : text.index("Attributes\n")]
    described = {
        word.strip() for line in section.splitlines() if " : " in line for word in line.partition(" : ")[0].split(",")
    }
    own = list(inspect.signature(kind).parameters)
    if name == "XGBEstimator":
        from raydp_ml.estimators.xgb.params import PARAMETERS

        own = [key for key in own if key not in PARAMETERS]
    assert [key for key in own if key not in described] == []


@pytest.mark.parametrize("name", ESTIMATORS)
def test_shared_parameters_are_documented_by_the_table(name: str) -> None:
    source = SOURCES[name].read_text()
    assert documented(source, name) == source  # otherwise: python -m docs.parameters
    in_table = {key for names in DOCUMENTED for key in names.split(", ")}
    assert set(COMMON) - in_table == {"task"}  # whose choices differ


def test_the_table_is_written_over_what_stands_there_and_only_there() -> None:
    source = SOURCES["XGBEstimator"].read_text()
    other = source.replace("What a null or NaN feature means", "What a hole means")
    assert other != source
    assert documented(other, "XGBEstimator") == source


@pytest.mark.parametrize("names", list(DOCUMENTED))
def test_documented_defaults_are_those_of_the_signatures(names: str) -> None:
    said = re.search(r"default=(.+)", DOCUMENTED[names].kind)
    for key in names.split(", "):
        for estimator in ESTIMATORS:
            parameter = inspect.signature(getattr(raydp_ml, estimator)).parameters.get(key)
            if parameter is not None and said is not None:
                assert ast.literal_eval(said[1]) == parameter.default
