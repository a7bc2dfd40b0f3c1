"""A fitted booster as xgboost's own estimator for scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["as_sklearn"]

# How xgboost.XGBModel calls what xgboost itself calls otherwise.
_NAMES = {"eta": "learning_rate", "seed": "random_state", "nthread": "n_jobs"}


def as_sklearn(task: str, booster: Any, params: Mapping[str, Any]) -> Any:
    """``XGBClassifier``, ``XGBRegressor`` or ``XGBRanker`` with a copy of the booster.

    Parameters
    ----------
    task : {"classification", "regression", "ranking"}
        Which one.
    booster : xgboost.Booster
        The fitted model.
    params : mapping
        Parameters of xgboost, by our names.
    """
    import xgboost

    kinds = {
        "classification": xgboost.XGBClassifier,
        "regression": xgboost.XGBRegressor,
        "ranking": xgboost.XGBRanker,
    }
    given = {_NAMES.get(name, name): value for name, value in params.items()}
    if "c" in (booster.feature_types or []):
        given |= {"enable_categorical": True, "feature_types": booster.feature_types}
    model = kinds[task](**given, n_estimators=booster.num_boosted_rounds())
    model.load_model(bytearray(booster.save_raw("ubj")))
    return model
