"""What a fit has learnt, as one value: the fitted model, and what its predictions need besides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raydp_ml.estimators.predictor import Predictor
from raydp_ml.estimators.protocol import Fitted
from raydp_ml.frames.columns import Feature

__all__ = ["Learnt"]


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

    def to_plain(self) -> dict[str, Any]:
        """All but the fitted model and the classes, as values for ``metadata.json``."""
        return {
            "task": self.task,
            "features": [feature.to_plain() for feature in self.features],
            "label_type": None if self.label_type is None else str(self.label_type),
            "by_name": self.by_name,
            "outputs": self.outputs,
            "sparse": self.sparse,
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], fitted: Fitted, classes: Any) -> Learnt:
        """What :meth:`to_plain` described."""
        return cls(
            fitted=fitted,
            task=plain["task"],
            features=fitted.typed(tuple(map(Feature.from_plain, plain["features"]))),
            by_name=plain["by_name"],
            classes=classes,
            label_type=None if plain["label_type"] is None else pa.type_for_alias(plain["label_type"]),
            outputs=plain["outputs"],
            sparse=plain.get("sparse", False),  # directories of before have dense models
        )
