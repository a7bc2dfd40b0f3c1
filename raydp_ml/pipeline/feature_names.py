"""Names of the numbers that an estimator gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from raydp_ml.feature.attributes import element_names
from raydp_ml.frames.columns import Feature

if TYPE_CHECKING:
    from pyspark.sql.types import StructType

__all__ = ["feature_names"]


def feature_names(schema: StructType, features: Sequence[Feature]) -> list[str]:
    """A name for each number of the features.

    Parameters
    ----------
    schema : pyspark.sql.types.StructType
        The frame after the feature steps.
    features : sequence of Feature
        The columns and how many numbers each holds.

    Returns
    -------
    list of str
        A column of numbers has its name. The elements of a vector have those of Spark ML's metadata, or else the column's name
        and their position.
    """
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql.types import ArrayType

    names: list[str] = []
    for feature in features:
        field = schema[feature.name]
        if not isinstance(field.dataType, VectorUDT | ArrayType):
            names.append(feature.name)
            continue
        known = {position: name for name, position in element_names(field).items()}
        names += [known.get(position, f"{feature.name}_{position}") for position in range(feature.width)]
    return names
