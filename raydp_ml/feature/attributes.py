"""Spark ML's metadata of a column: the labels of its numbers, the names and categories of its vectors' elements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from raydp_ml.errors import InvalidValueError

if TYPE_CHECKING:
    from pyspark.sql.types import StructField

__all__ = ["element_categories", "element_names", "labels_of"]


def labels_of(field: StructField) -> tuple[str, ...]:
    """The labels of a column of numbers, as a StringIndexer leaves them.

    Parameters
    ----------
    field : pyspark.sql.types.StructField
        The column.

    Returns
    -------
    tuple of str
        By number.

    Raises
    ------
    InvalidValueError
        When the column has none.
    """
    labels = _attributes(field).get("vals")
    if labels is None:
        raise InvalidValueError(f"column {field.name!r} has no labels in its metadata")
    return tuple(labels)


def element_categories(field: StructField) -> tuple[int, ...]:
    """How many categories each element of a column has; 0 for an element that is a number.

    Parameters
    ----------
    field : pyspark.sql.types.StructField
        A column of numbers, which is one element, or of vectors.

    Returns
    -------
    tuple of int
        For each element.
    """
    from pyspark.ml.linalg import VectorUDT

    attributes = _attributes(field)
    if not isinstance(field.dataType, VectorUDT):
        return (_categories(attributes) if attributes.get("type") == "nominal" else 0,)
    found = {
        int(element["idx"]): _categories(element) if kind == "nominal" else 0 for kind, element in _elements(attributes)
    }
    if not found:
        raise InvalidValueError(f"the elements of column {field.name!r} are not described in its metadata")
    return tuple(found[index] for index in range(len(found)))


def element_names(field: StructField) -> dict[str, int]:
    """The positions of a vector column's elements by their names."""
    return {element["name"]: int(element["idx"]) for _, element in _elements(_attributes(field)) if "name" in element}


def _attributes(field: StructField) -> Mapping[str, Any]:
    return (field.metadata or {}).get("ml_attr", {})


def _elements(attributes: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for kind, elements in attributes.get("attrs", {}).items():
        for element in elements:
            yield kind, element


def _categories(element: Mapping[str, Any]) -> int:
    return len(element["vals"]) if "vals" in element else int(element["num_vals"])
