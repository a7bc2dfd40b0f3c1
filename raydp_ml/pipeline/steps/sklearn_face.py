"""Last steps whose value has the interface of scikit-learn's estimators: copies, parameters, features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sklearn.base import clone

from raydp_ml.pipeline.steps.step import FinalStep

if TYPE_CHECKING:
    from raydp_ml.frames.columns import Feature

__all__ = ["FOLDER", "SklearnFaced"]

FOLDER = "model"
"""Where a saved directory has the estimator. There is one at most, because it can only be the last step."""


class SklearnFaced(FinalStep):
    """A last step that is an estimator with ``get_params``, ``set_params`` and ``clone``."""

    draws_itself = True

    def copy(self) -> Any:
        return clone(self.value)

    def get_params(self) -> dict[str, Any]:
        return self.value.get_params(deep=True)

    def set_params(self, name: str, params: Mapping[str, Any]) -> None:
        self.value.set_params(**params)

    def features(self) -> tuple[Feature, ...]:
        return self.value.serving_form()[1]
