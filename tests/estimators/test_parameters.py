"""The parameters that the three estimators have in common are the same: in name, default and order."""

from __future__ import annotations

import inspect
from itertools import pairwise

import pytest

import raydp_ml

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
    "max_retries": 3,
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
    assert {key: first[key].default for key in shared} == {key: second[key].default for key in shared}


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
