"""scikit-learn's own battery of checks on TFEstimator. TensorFlow traces each fit anew, so most of them are slow."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

from raydp_ml import TFEstimator
from raydp_ml.estimators.tf.model import import_keras

keras = import_keras()

EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": "other numbers of rows make other batches",
}
# No fit, or one or two, in each of these.
QUICK = {
    "check_all_zero_sample_weights_error",
    "check_classifiers_one_label",
    "check_complex_data",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_sparse_array",
    "check_estimator_tags_renamed",
    "check_estimators_empty_data_messages",
    "check_estimators_unfitted",
    "check_n_features_in",
    "check_no_attributes_set_in_init",
    "check_readonly_memmap_input",
    "check_requires_y_none",
    "check_valid_tag_types",
}


def _classifier(n_outputs: int) -> Any:
    return keras.Sequential(
        [keras.layers.Dense(16, activation="relu"), keras.layers.Dense(n_outputs, activation="softmax")]
    )


def _regressor(n_outputs: int) -> Any:
    return keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(n_outputs)])


def _cases() -> list[Any]:
    settings = {"lr": 0.05, "batch_size": 32, "num_epochs": 20, "random_state": 0, "verbose": False}
    estimators = {
        "classifier": TFEstimator(_classifier, loss="sparse_categorical_crossentropy", **settings),
        "regressor": TFEstimator(_regressor, loss="mse", **settings),
    }
    cases = []
    for kind, estimator in estimators.items():
        for each, check in estimator_checks_generator(estimator):
            name = check.func.__name__
            marks = [] if name in QUICK else [pytest.mark.slow]
            if name in EXPECTED:
                marks.append(pytest.mark.xfail(reason=EXPECTED[name], strict=True))
            cases.append(pytest.param(each, check, marks=marks, id=f"{kind}-{name}"))
    return cases


@pytest.mark.parametrize(("estimator", "check"), _cases())
def test_scikit_learns_check(estimator, check):
    check(estimator)
