"""A fitted booster: how it predicts, and how it is saved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from raydp_ml.errors import require
from raydp_ml.estimators.protocol import Fitted
from raydp_ml.frames.layouts import Matrix

__all__ = ["XGBFitted"]

_FILE = "model.ubj"


@dataclass
class XGBFitted(Fitted):
    """A fitted booster."""

    booster: Any
    objective: str
    task: str
    linear: bool = False
    # How many values a row's prediction has, where it is not the number of labels: quantiles.
    outputs: int | None = None
    reads_nulls: ClassVar[bool] = True

    @property
    def model(self) -> Any:
        """The booster."""
        return self.booster

    def for_serving(self) -> XGBFitted:
        """This with a booster of one thread: for few rows, waiting for the others takes longer than the trees."""
        booster = self.booster.copy()
        booster.set_param({"nthread": 1})
        return replace(self, booster=booster)

    def predict(self, X: Matrix) -> np.ndarray:
        """Probabilities, or values."""
        raw = self.objective in ("binary:logitraw", "multi:softmax")
        values = self._outputs(X, margin=raw)
        if self.task != "classification":
            return values
        if raw:
            values = values.astype(np.float64)
            if values.ndim == 1:
                values = 1.0 / (1.0 + np.exp(-values))
            else:
                values = np.exp(values - values.max(axis=1, keepdims=True))
                values /= values.sum(axis=1, keepdims=True)
        if values.ndim == 1:
            values = values.astype(np.float64)
            values = np.column_stack([1.0 - values, values])
        return values

    def _outputs(self, X: Matrix, margin: bool) -> np.ndarray:
        if self.linear:  # its boosters predict from a DMatrix only
            import xgboost

            return self.booster.predict(xgboost.DMatrix(X), output_margin=margin, validate_features=False)
        kind = "margin" if margin else "value"
        return self.booster.inplace_predict(X, predict_type=kind, validate_features=False)

    def write(self, directory: str) -> dict[str, Any]:
        """Write the booster as UBJSON."""
        self.booster.save_model(Path(directory, _FILE))
        return {"objective": self.objective, "task": self.task, "linear": self.linear, "outputs": self.outputs}

    @classmethod
    def read(cls, directory: str, notes: dict[str, Any], model: Any = None) -> XGBFitted:
        """Read what ``write`` wrote."""
        xgboost = require("xgboost", "xgboost")
        booster = xgboost.Booster()
        booster.load_model(Path(directory, _FILE))
        return cls(booster, notes["objective"], notes["task"], notes["linear"], notes["outputs"])
