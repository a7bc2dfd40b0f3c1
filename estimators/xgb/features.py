"""Features by name, where xgboost takes them by position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raydp_ml.errors import InvalidValueError
from raydp_ml.frames.columns import Feature
from raydp_ml.frames.sparse import WIDE

__all__ = ["by_position", "column_types", "name_features", "weights_of_features", "without_names"]


def column_types(features: tuple[Feature, ...]) -> list[str] | None:
    """xgboost's types of the columns of the matrix, ``"c"`` for categories; None where all are numbers.

    Examples
    --------
    >>> from raydp_ml.frames.categories import Nominal
    >>> column_types((Feature("v", 2, nominal=(Nominal(("Oslo", "Rome"), place=1),)), Feature("a")))
    ['q', 'c', 'q']
    """
    if not any(feature.nominal for feature in features):
        return None
    types = []
    for feature in features:
        categories = {each.place for each in feature.nominal}
        types += ["c" if place in categories else "q" for place in range(feature.width)]
    return types


def name_features(booster: Any, names: Sequence[str], types: Sequence[str] | None) -> None:
    """Give the booster the column names, for its importances and plots, unless they are as many as the elements of hashed text.

    Parameters
    ----------
    booster : xgboost.Booster
        What is named.
    names, types : sequence of str
        What :func:`raydp_ml.frames.columns.column_names` and :func:`column_types` gave.
    """
    unusable = any(set(name) & set("[]<") for name in names) or len(set(names)) < len(names)
    numbered = list(names) == [str(place) for place in range(len(names))]
    booster.feature_names = None if unusable or numbered or len(names) > WIDE else list(names)
    booster.feature_types = None if types is None else list(types)


def without_names(booster: Any) -> Any:
    """A copy of a booster that takes matrices without names of features; which column is which was checked before."""
    nameless = booster.copy()
    nameless.feature_names = nameless.feature_types = None
    return nameless


def _place(argument: str, name: Any, names: Sequence[str]) -> int:
    if name not in names:
        raise InvalidValueError(f"{argument}: there is no feature {name!r}; the features are {', '.join(names)}")
    return names.index(name)


def by_position(params: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Constraints that name features, as xgboost takes them for a matrix without names."""
    found = dict(params)
    monotone = found.get("monotone_constraints")
    if isinstance(monotone, Mapping):
        signs = [0] * len(names)
        for name, sign in monotone.items():
            signs[_place("monotone_constraints", name, names)] = int(sign)
        found["monotone_constraints"] = tuple(signs)
    groups = found.get("interaction_constraints")
    if isinstance(groups, list | tuple):
        numbers = [
            [_place("interaction_constraints", each, names) if isinstance(each, str) else int(each) for each in group]
            for group in groups
        ]
        found["interaction_constraints"] = str(numbers)  # its text form is the one that needs no names
    return found


def weights_of_features(value: Any, names: Sequence[str]) -> np.ndarray | None:
    """The parameter ``feature_weights`` by position; a dict leaves 1 for features that it does not name.

    Examples
    --------
    >>> weights_of_features({"b": 3.0}, ["a", "b"]).tolist()
    [1.0, 3.0]
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        weights = np.ones(len(names))
        for name, weight in value.items():
            weights[_place("feature_weights", name, names)] = weight
    else:
        weights = np.asarray(value, np.float64)
        if weights.shape != (len(names),):
            raise InvalidValueError(
                f"feature_weights has the shape {weights.shape}, but there are {len(names)} features: {', '.join(names)}"
            )
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise InvalidValueError(f"feature_weights={value!r} must be numbers of at least 0")
    return weights
