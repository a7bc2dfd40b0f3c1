"""The examples in docstrings run and give what they say."""

from __future__ import annotations

import doctest
from importlib import import_module
from importlib.util import find_spec

import pytest

from tests.house.test_architecture import MODULES

# Modules whose import needs a library that this environment may lack.
NEEDS = {
    "raydp_ml.estimators.tf": "tensorflow",
    "raydp_ml.estimators.torch": "torch",
    "raydp_ml.estimators.xgb": "xgboost",
}
WITH_EXAMPLES = [name for name, file in MODULES.items() if ">>>" in file.read_text()]


def test_there_are_examples() -> None:
    assert len(WITH_EXAMPLES) > 20


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(name: str, ray_cluster: None) -> None:
    library = next((library for package, library in NEEDS.items() if name.startswith(package)), None)
    if library is not None and find_spec(library) is None:
        pytest.skip(f"this environment has no {library}")
    failed, _ = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert failed == 0
