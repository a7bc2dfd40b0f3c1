"""A fitted booster: how it predicts, and how it is saved."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from raydp_ml.errors import InvalidValueError, require
from raydp_ml.estimators.protocol import Fitted
from raydp_ml.frames.layouts import Matrix, is_sparse

__all__ = ["XGBFitted", "reason_of"]

_FILE = "model.ubj"


def reason_of(error: Exception) -> str:
    """What xgboost says, without the addresses of its own code.

    Examples
    --------
    >>> reason_of(ValueError("[16:46:32] /src/a.cc:1089: Check failed: x: not implemented.\\nStack trace: ..."))
    'Check failed: x: not implemented.'
    """
    first = str(error).strip().splitlines()[0]
    return re.sub(r"^\[[\d:]+\] \S+:\d+: ", "", first)


@dataclass
class XGBFitted(Fitted):
    """A fitted booster."""

    booster: Any
    objective: str
    task: str
    linear: bool = False
    # How many values a row's prediction has, where it is not the number of labels: quantiles.
    outputs: int | None = None
    # Whether the last column of the matrices is the margin that predictions start from.
    reads_margin: bool = False
    modules: ClassVar[tuple[str, ...]] = ("xgboost", __name__)
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

    def raw(self, X: Matrix, output: str) -> np.ndarray:
        """Margins; the leaf of each tree; or SHAP contributions of the features, the bias last, which sum to the margin."""
        import xgboost

        if output == "margin":
            return self._outputs(X, margin=True)
        if output == "leaf" and self.linear:
            raise InvalidValueError("booster='gblinear' has no trees, so its predictions have no leaves")
        rows, margin = self._parted(X)
        wanted = {"pred_leaf": True} if output == "leaf" else {"pred_contribs": True}
        try:
            found = self.booster.predict(xgboost.DMatrix(rows, base_margin=margin), validate_features=False, **wanted)
        except xgboost.core.XGBoostError as error:
            raise InvalidValueError(f"xgboost cannot give {output} of this model: {reason_of(error)}") from error
        return found.reshape(rows.shape[0], -1) if output == "leaf" else found

    def _parted(self, X: Any) -> tuple[Any, np.ndarray | None]:
        """The features, and the margin that predictions start from."""
        if self.reads_margin and is_sparse(X):
            return X[:, :-1], X[:, -1:].toarray().ravel()
        return (np.ascontiguousarray(X[:, :-1]), X[:, -1]) if self.reads_margin else (X, None)

    def _outputs(self, X: Matrix, margin: bool) -> np.ndarray:
        rows, start = self._parted(X)
        if self.linear:  # its boosters predict from a DMatrix only
            import xgboost

            matrix = xgboost.DMatrix(rows, base_margin=start)
            return self.booster.predict(matrix, output_margin=margin, validate_features=False)
        kind = "margin" if margin else "value"
        return self.booster.inplace_predict(rows, predict_type=kind, validate_features=False, base_margin=start)

    def write(self, directory: str) -> dict[str, Any]:
        """Write the booster as UBJSON."""
        self.booster.save_model(Path(directory, _FILE))
        return {
            "objective": self.objective,
            "task": self.task,
            "linear": self.linear,
            "outputs": self.outputs,
            "reads_margin": self.reads_margin,
        }

    @classmethod
    def read(cls, directory: str, notes: dict[str, Any], model: Any = None) -> XGBFitted:
        """Read what ``write`` wrote."""
        xgboost = require("xgboost", "xgboost")
        booster = xgboost.Booster()
        booster.load_model(Path(directory, _FILE))
        about = (notes["objective"], notes["task"], notes["linear"], notes["outputs"])
        return cls(booster, *about, reads_margin=notes.get("reads_margin", False))  # older directories do not say it
