"""The forms in which the features of rows lie in memory: one matrix, a matrix for each type of number, or a sparse matrix.

A feature has a type, ``Feature.dtype``: ``"float32"`` unless a model takes it as ``"float64"`` or ``"int64"``. Where all
features have one floating-point type, their rows are one ``numpy.ndarray``; otherwise they are :class:`TypedColumns`. In the sparse
layout they are a ``scipy.sparse.csr_matrix`` of float32 (see :mod:`raydp_ml.frames.sparse`). All have a ``shape`` and give some of
their rows with ``X[rows]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from raydp_ml.errors import InvalidValueError
from raydp_ml.frames.columns import Feature

__all__ = [
    "Matrix",
    "TypedColumns",
    "assemble",
    "from_leaves",
    "groups_of",
    "infinite_rows",
    "is_sparse",
    "leaves_of",
    "null_rows",
    "of_type",
    "places",
    "type_groups",
    "zeros",
]


@dataclass(frozen=True)
class TypedColumns:
    """Features of several types: a matrix for each type.

    Parameters
    ----------
    groups : tuple of numpy.ndarray
        The matrices, in the order in which their types first stand among the features (see :func:`places`).
    missing : numpy.ndarray of bool
        Which rows lack a value that no NaN can stand for: integers hold 0 there.
    """

    groups: tuple[np.ndarray, ...]
    missing: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and columns of all matrices together."""
        return len(self.missing), sum(group.shape[1] for group in self.groups)

    def __getitem__(self, rows: Any) -> TypedColumns:
        return TypedColumns(tuple(group[rows] for group in self.groups), self.missing[rows])


# A scipy.sparse.csr_matrix counts as Any here, so that scipy.sparse is imported where there is one only.
Matrix: TypeAlias = np.ndarray | TypedColumns | Any


def is_sparse(X: Any) -> bool:
    """Whether rows are a matrix, or an array, of scipy.sparse; asked without importing it."""
    return type(X).__module__.startswith("scipy.sparse")


# -- features and their matrices -----------------------------------------------------------------------------------


def type_groups(features: Iterable[Feature]) -> dict[str, tuple[Feature, ...]]:
    """The features by their type, in the order in which the types first come.

    Examples
    --------
    >>> list(type_groups([Feature("id", dtype="int64"), Feature("a"), Feature("b")]))
    ['int64', 'float32']
    """
    groups: dict[str, tuple[Feature, ...]] = {}
    for feature in features:
        groups[feature.dtype] = (*groups.get(feature.dtype, ()), feature)
    return groups


def places(features: Iterable[Feature]) -> dict[str, tuple[int, slice]]:
    """Where each feature lies: the number of its matrix, and its columns there.

    Examples
    --------
    >>> places([Feature("a"), Feature("id", dtype="int64"), Feature("v", 2)])
    {'a': (0, slice(0, 1, None)), 'v': (0, slice(1, 3, None)), 'id': (1, slice(0, 1, None))}
    """
    found = {}
    for number, group in enumerate(type_groups(features).values()):
        start = 0
        for feature in group:
            found[feature.name] = (number, slice(start, start + feature.width))
            start += feature.width
    return found


def assemble(
    features: Sequence[Feature], rows: int, read: Callable[[Feature], tuple[np.ndarray, np.ndarray | None]]
) -> Matrix:
    """Make the matrices of features.

    Parameters
    ----------
    features : sequence of Feature
        The features.
    rows : int
        How many rows there are.
    read : callable
        Gives the values of a feature, of its type and as many columns as it is wide, and which rows lack one that cannot be NaN.
    """
    groups = type_groups(features)
    integers = any(np.dtype(dtype).kind == "i" for dtype in groups)
    if len(features) == 1 and not integers:
        return np.ascontiguousarray(read(features[0])[0])
    missing = np.zeros(rows, bool)
    matrices = []
    for dtype, group in groups.items():
        matrix = np.empty((rows, sum(feature.width for feature in group)), dtype)
        start = 0
        for feature in group:
            matrix[:, start : start + feature.width], lacking = read(feature)
            start += feature.width
            if lacking is not None:
                missing |= lacking
        matrices.append(matrix)
    if len(matrices) == 1 and not integers:
        return matrices[0]
    return TypedColumns(tuple(matrices), missing) if matrices else np.empty((rows, 0), np.float32)


def of_type(values: np.ndarray, feature: Feature) -> tuple[np.ndarray, np.ndarray | None]:
    """Numbers in the type of a feature.

    Returns
    -------
    values : numpy.ndarray
        Of two dimensions. Numbers with a fraction lose it where the feature is of integers, as torch and numpy cast them.
    missing : numpy.ndarray or None
        Which rows have a NaN where the feature is of integers.

    Raises
    ------
    InvalidValueError
        When a number is beyond the integers of 64 bits.

    Examples
    --------
    >>> of_type(np.array([1.0, np.nan]), Feature("id", dtype="int64"))
    (array([[1],
           [0]]), array([False,  True]))
    """
    values = values.reshape(len(values), -1) if len(values) else values.reshape(0, feature.width)
    if np.dtype(feature.dtype).kind != "i":
        return np.ascontiguousarray(values, feature.dtype), None
    missing = None
    if values.dtype.kind not in "biu":
        values = np.asarray(values, np.float64)
        nans = np.isnan(values)
        if nans.any():
            missing, values = nans.any(axis=1), np.where(nans, 0, values)
    beyond = values >= 2**63 if values.dtype.kind != "f" else ~(np.abs(values) < 2.0**63)
    if values.dtype.kind in "fu" and beyond.any():
        raise InvalidValueError(
            f"column {feature.name!r} is given to the model as integers of 64 bits, which cannot hold {values[beyond][0]!s}"
        )
    return np.ascontiguousarray(values, np.int64), missing


def zeros(features: Sequence[Feature], rows: int) -> Matrix:
    """Rows of zeros, in the form that the features have."""
    return assemble(features, rows, lambda feature: (np.zeros((rows, feature.width), feature.dtype), None))


def groups_of(X: Matrix) -> tuple[Any, ...]:
    """The matrices that features lie in; one for a sparse matrix."""
    return X.groups if isinstance(X, TypedColumns) else (X,)


# -- rows ----------------------------------------------------------------------------------------------------------


def null_rows(X: Matrix) -> np.ndarray | None:
    """Which rows lack a feature; None: none does.

    Examples
    --------
    >>> null_rows(np.array([[1.0], [np.nan]])).tolist()
    [False, True]
    """
    nulls = X.missing if isinstance(X, TypedColumns) else np.zeros(X.shape[0], bool)
    for group in groups_of(X):
        nulls = nulls | _rows_where(group, np.isnan)
    return nulls if nulls.any() else None


def infinite_rows(X: Matrix) -> int:
    """How many rows have an infinite feature."""
    infinite = np.zeros(X.shape[0], bool)
    for group in groups_of(X):
        infinite |= _rows_where(group, np.isinf)
    return int(infinite.sum())


def _rows_where(group: Any, wrong: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Which rows have a number that is wrong; False where all are finite."""
    if not is_sparse(group):
        return False if _all_finite(group) else wrong(group).any(axis=1)
    if _all_finite(group.data):
        return False
    rows = np.zeros(group.shape[0], bool)
    rows[np.searchsorted(group.indptr, np.flatnonzero(wrong(group.data)), side="right") - 1] = True
    return rows


def _all_finite(matrix: np.ndarray) -> bool:
    """Whether all numbers are finite, in one pass; masks are made only where they are not."""
    if matrix.dtype.kind != "f":
        return True
    with np.errstate(over="ignore"):
        return bool(np.isfinite(matrix.sum(dtype=np.float64)))


def leaves_of(parts: Sequence[Any]) -> dict[str, list[np.ndarray]]:
    """The arrays that rows consist of, by a name for each; those of one name, one after another, are the rows of all parts."""
    if is_sparse(parts[0]):
        before = np.cumsum([0, *(part.nnz for part in parts)])
        return {
            "X_values": [part.data for part in parts],
            "X_indices": [part.indices for part in parts],
            "X_ends": [part.indptr[1:].astype(np.int64) + offset for part, offset in zip(parts, before, strict=False)],
            "X_width": [np.array([parts[0].shape[1]])],
        }
    typed = [part for part in parts if isinstance(part, TypedColumns)]
    if not typed:
        return {"X": [group for part in parts for group in groups_of(part)]}
    leaves = {"X_missing": [part.missing for part in typed]}
    for number in range(len(typed[0].groups)):
        leaves[f"X_{number}"] = [part.groups[number] for part in typed]
    return leaves


def from_leaves(leaves: Mapping[str, np.ndarray]) -> Matrix:
    """Rows of the arrays that :func:`leaves_of` named."""
    if "X" in leaves:
        return leaves["X"]
    if "X_ends" in leaves:
        from scipy import sparse

        ends, width = leaves["X_ends"], int(leaves["X_width"][0])
        starts = np.concatenate([np.zeros(1, np.int64), ends])
        return sparse.csr_matrix((leaves["X_values"], leaves["X_indices"], starts), shape=(len(ends), width))
    groups = tuple(leaves[f"X_{number}"] for number in range(len(leaves) - 1))
    return TypedColumns(groups, leaves["X_missing"])
