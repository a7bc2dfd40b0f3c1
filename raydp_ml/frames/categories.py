"""Categories of a feature, and the codes that models take in their place: the one place that maps cells to codes.

The code of a category is its place among the categories that the feature had in training, and cells are brought to it by value: a
dictionary in another order, or with other members, gives the same codes. Three kinds of cells have no value of their own:

* A number where the categories are text is a code already, as Spark's StringIndexer makes it.
* A number with nominal attributes in Spark ML's metadata stands for the value that they have at its place.
* A category that training had not, a code that there is not, and a null are NaN: a missing value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from raydp_ml.errors import InvalidTypeError

__all__ = [
    "Category",
    "Nominal",
    "are_text",
    "codes_of_array",
    "codes_of_numbers",
    "known_categories",
    "some",
    "with_codes",
]

Category: TypeAlias = str | int | float | bool


@dataclass(frozen=True)
class Nominal:
    """The categories of one number of a feature.

    Parameters
    ----------
    values : sequence of str, int, float or bool
        The categories in the order of their codes; a ``range`` from 0 where the cells are codes.
    place : int, default=0
        Which number of the feature it is.
    """

    values: Sequence[Category]
    place: int = 0

    def of_codes(self, start: int) -> Nominal:
        """The same where cells are codes, in a matrix in which the feature starts at this column."""
        return Nominal(range(len(self.values)), start + self.place)


def are_text(categories: Sequence[Category]) -> bool:
    """Whether categories are text, so that a number among the cells is a code.

    Examples
    --------
    >>> are_text(["Oslo", "Rome"]), are_text([10, 20]), are_text(range(3))
    (True, False, False)
    """
    return not isinstance(categories, range) and bool(categories) and isinstance(categories[0], str)


def some(categories: Sequence[Category]) -> str:
    """A few of the categories, for messages.

    Examples
    --------
    >>> some(["Oslo", "Rome"])
    "'Oslo', 'Rome'"
    """
    return ", ".join(map(repr, categories[:5])) + (", ..." if len(categories) > 5 else "")


def known_categories(values: Sequence[Any], column: str) -> tuple[Category, ...]:
    """The categories of a column, each once and in their order; nulls are none.

    Parameters
    ----------
    values : sequence
        Values of a dictionary; with those of several dictionaries one after another, categories come in the order of the first.
    column : str
        Name of the column, for messages.

    Raises
    ------
    InvalidTypeError
        When they are neither text, numbers nor booleans, or of several of these kinds.

    Examples
    --------
    >>> known_categories(["b", "a", None, "b"], "city")
    ('b', 'a')
    """
    distinct = tuple(dict.fromkeys(value for value in values if value is not None and value == value))
    text = {isinstance(value, str) for value in distinct}
    if len(text) > 1 or not all(isinstance(value, str | int | float) for value in distinct):
        other = next((value for value in distinct if not isinstance(value, str | int | float)), None)
        found = "text and numbers" if other is None else f"of the type {type(other).__name__}"
        raise InvalidTypeError(
            f"the categories of column {column!r} are {found}; make them text, numbers or booleans first (in pandas: "
            ".cat.rename_categories(str))"
        )
    return distinct


def codes_of_array(cells: pa.Array, name: str, categories: Sequence[Category]) -> np.ndarray:
    """The codes of a column's cells.

    Parameters
    ----------
    cells : pyarrow.Array
        Text, numbers, booleans, or a dictionary of these.
    name : str
        Name of the column, for messages.
    categories : sequence
        The categories in the order of their codes.

    Returns
    -------
    numpy.ndarray of float32 of shape (rows, 1)
        NaN where a cell is null or none of the categories.

    Examples
    --------
    >>> codes_of_array(pa.array(["Rome", "Oslo", "Bonn"]).dictionary_encode(), "city", ["Oslo", "Rome"]).ravel().tolist()
    [1.0, 0.0, nan]
    """
    encoded = pa.types.is_dictionary(cells.type)
    kind = cells.type.value_type if encoded else cells.type
    of_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if pa.types.is_null(kind):
        return np.full((len(cells), 1), np.nan, np.float32)
    if not of_text and are_text(categories) and not encoded and _is_number(kind):
        numbers = cells.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return codes_of_numbers(numbers, categories).reshape(-1, 1)
    if of_text != are_text(categories) or not (of_text or _is_number(kind) or pa.types.is_boolean(kind)):
        raise InvalidTypeError(
            f"column {name!r} has the type {cells.type}, but the model was trained on the categories {some(categories)}"
        )
    dictionary = cells if encoded else cells.dictionary_encode()
    code_of = {category: code for code, category in enumerate(categories)}
    codes = np.array([code_of.get(value, np.nan) for value in dictionary.dictionary.to_pylist()], np.float32)
    found = np.full(len(cells), np.nan, np.float32)
    present = np.asarray(dictionary.indices.is_valid())
    found[present] = codes[np.asarray(dictionary.indices.drop_null())]
    return found.reshape(-1, 1)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def codes_of_numbers(numbers: np.ndarray, categories: Sequence[Category]) -> np.ndarray:
    """The codes of cells that are numbers: the numbers themselves where the categories are text.

    Parameters
    ----------
    numbers : numpy.ndarray of one dimension
        Numbers, or booleans.
    categories : sequence
        The categories in the order of their codes.

    Examples
    --------
    >>> codes_of_numbers(np.array([1.0, 2.0, 0.5]), ["Oslo", "Rome"]).tolist()
    [1.0, nan, nan]
    >>> codes_of_numbers(np.array([20, 30]), [10, 20]).tolist()
    [1.0, nan]
    """
    count = len(categories)
    if are_text(categories) or isinstance(categories, range):
        numbers = np.asarray(numbers, np.float32)
        with np.errstate(invalid="ignore"):
            known = (numbers >= 0) & (numbers < count) & (numbers == np.floor(numbers))
        return numbers if known.all() else np.where(known, numbers, np.float32(np.nan))
    found = np.full(len(numbers), np.nan, np.float32)
    if count:
        values = np.array(list(categories))
        order = np.argsort(values, kind="stable")
        places = np.minimum(np.searchsorted(values[order], numbers), count - 1)
        known = values[order][places] == numbers
        found[known] = order[places][known]
    return found


def with_codes(matrix: np.ndarray, nominal: Sequence[Nominal]) -> np.ndarray:
    """A matrix of float32 with codes in the columns that hold categories; the given one is not changed.

    Parameters
    ----------
    matrix : numpy.ndarray of two dimensions
        Numbers.
    nominal : sequence of Nominal
        What its columns hold.
    """
    found = np.asarray(matrix, np.float32)
    own = found is not matrix
    for each in nominal:
        codes = codes_of_numbers(matrix[:, each.place], each.values)
        if np.array_equal(codes, found[:, each.place], equal_nan=True):
            continue
        if not own:
            found, own = found.copy(), True
        found[:, each.place] = codes
    return found
