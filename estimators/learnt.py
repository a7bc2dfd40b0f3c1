"""What a fit has learnt, as one value: the fitted model, what its predictions need besides, and how both are saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.made_up_rows import compare_outputs, outputs_to_save
from raydp_ml.estimators.predictor import Predictor
from raydp_ml.estimators.protocol import Fitted
from raydp_ml.frames.columns import Feature, column_names
from raydp_ml.frames.sparse import WIDE

__all__ = ["ATTRIBUTES", "Learnt"]

ATTRIBUTES = ("n_features_in_", "feature_names_in_", "classes_", "history_")
"""The attributes of a fitted estimator that a saved directory may have."""


@dataclass(frozen=True)
class Learnt:
    """What a fit has learnt.

    ``by_name`` says whether the features were columns with names, or the columns of an array; ``outputs`` is how many values
    a row's prediction has, ``classes`` the labels of a classifier (a list of them for several 0/1 labels), and ``sparse`` whether
    features are read in the sparse layout.
    """

    fitted: Fitted
    task: str
    features: tuple[Feature, ...]
    by_name: bool
    classes: Any
    label_type: pa.DataType | None
    outputs: int
    sparse: bool = False

    @property
    def width(self) -> int:
        """How many numbers a row's features are."""
        return sum(feature.width for feature in self.features)

    @property
    def feature_names(self) -> list[str]:
        """Names of these numbers; where a vector is as wide as those of hashed text, those of the columns."""
        return [feature.name for feature in self.features] if self.width > WIDE else column_names(self.features)

    def predictor(self, null_features: str) -> Predictor:
        """What predicts, with what is to be done about nulls."""
        return Predictor(
            self.fitted,
            self.task,
            self.width,
            self.classes,
            self.label_type,
            self.outputs,
            null_features,
            self.fitted.reads_nulls,
            self.sparse,
        )

    def write(self, path: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Write the weights into a directory.

        Parameters
        ----------
        path : str
            The directory.
        attributes : mapping
            Those of :data:`ATTRIBUTES` that the estimator has.

        Returns
        -------
        dict
            Everything else, as values for ``metadata.json``.
        """
        return {
            "task": self.task,
            "features": [feature.to_plain() for feature in self.features],
            "label_type": None if self.label_type is None else str(self.label_type),
            "by_name": self.by_name,
            "outputs": self.outputs,
            "sparse": self.sparse,
            "attributes": dict(attributes),
            "weights": self.fitted.write(path),
            "made_up": outputs_to_save(self.fitted, self.features),
        }

    @classmethod
    def read(cls, path: str, state: Mapping[str, Any], fitted_type: type[Fitted], model: Any) -> Learnt:
        """What :meth:`write` wrote.

        Parameters
        ----------
        path : str
            The directory.
        state : mapping
            What :meth:`write` returned.
        fitted_type : type
            The class of the fitted model.
        model : object or None
            The model that the user gives in place of a class that the directory cannot name.
        """
        unknown = set(state["attributes"]) - set(ATTRIBUTES)
        if unknown:
            raise InvalidValueError(
                f"the saved directory names an attribute {min(unknown)!r}, which no saved directory has"
            )
        fitted = fitted_type.read(path, state["weights"], model=model)
        learnt = cls(
            fitted=fitted,
            task=state["task"],
            features=fitted.typed(tuple(map(Feature.from_plain, state["features"]))),
            by_name=state["by_name"],
            classes=state["attributes"].get("classes_"),
            label_type=None if state["label_type"] is None else pa.type_for_alias(state["label_type"]),
            outputs=state["outputs"],
            sparse=state.get("sparse", False),  # directories of before have dense models
        )
        compare_outputs(fitted, learnt.features, state.get("made_up"))
        return learnt
