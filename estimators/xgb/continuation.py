"""Boosters that training goes on from."""

from __future__ import annotations

import json
import os
from typing import Any

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.estimators.xgb.fitted import reason_of

__all__ = ["booster_of", "check_start"]


def booster_of(model: Any) -> Any:
    """The booster of the parameter ``xgb_model``.

    Parameters
    ----------
    model : xgboost.Booster, path or bytearray
        As ``xgboost.train`` takes it.

    Raises
    ------
    InvalidTypeError
        For estimators: a clone of the estimator that has one as a parameter would have one that is not fitted.
    """
    import xgboost

    if isinstance(model, xgboost.Booster):
        return model
    if not isinstance(model, str | os.PathLike | bytearray):
        raise InvalidTypeError(
            f"xgb_model is a {type(model).__name__}; give a Booster (est.get_booster()), a path or the bytes of a saved model"
        )
    if not isinstance(model, bytearray) and not os.path.isfile(model):
        raise InvalidValueError(f"xgb_model={str(model)!r} is no file")
    try:
        return xgboost.Booster(model_file=model)
    except xgboost.core.XGBoostError as error:
        raise InvalidValueError(f"xgb_model cannot be read by xgboost: {reason_of(error)}") from error


def check_start(booster: Any, features: int, classes: int) -> None:
    """Raise when training cannot go on from a booster with these features and classes (0 for none)."""
    if booster.num_features() != features:
        raise InvalidValueError(f"xgb_model has {booster.num_features()} features, but the data has {features}")
    own = int(json.loads(booster.save_config())["learner"]["learner_model_param"]["num_class"])
    wanted = classes if classes > 2 else 0
    if own != wanted and (own > 1 or wanted > 1):
        raise InvalidValueError(f"xgb_model has {own or 2} classes, but the label has {classes or 'none'}")
