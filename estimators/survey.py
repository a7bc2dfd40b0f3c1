"""What is known of the rows before training starts: counts, classes, problems, and which rows may train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raydp_ml.errors import InvalidTypeError
from raydp_ml.frames.arrays import Arrays, null_mask
from raydp_ml.frames.layouts import infinite_rows, null_rows

__all__ = ["Survey", "merge", "survey"]


@dataclass
class Survey:
    """What a look at every row told: counts, classes, problems, and which rows may train.

    ``other_labels`` counts labels that are neither 0 nor 1 where rows have several of them; ``weight`` is the sum of the weights,
    None where rows have none; ``queries`` are the different queries of ranking, and ``query_of_row`` numbers in them.
    """

    rows: int
    null_rows: int = 0
    infinite_rows: int = 0
    label_nulls: int = 0
    other_labels: int = 0
    bad_weights: int = 0
    weight: float | None = None
    classes: np.ndarray | None = None
    class_counts: np.ndarray | None = None
    usable: np.ndarray | None = None
    validation: np.ndarray | None = None
    queries: np.ndarray | None = None
    query_of_row: np.ndarray | None = None


def survey(arrays: Arrays, classify: bool, drop_nulls: bool) -> Survey:
    """Look at every row.

    Examples
    --------
    >>> survey(Arrays(np.array([[1.0], [np.nan]]), np.array(["a", "b"])), classify=True, drop_nulls=False).null_rows
    1
    """
    found = Survey(len(arrays), validation=arrays.validation)
    nulls = null_rows(arrays.X)
    found.infinite_rows = infinite_rows(arrays.X)
    if nulls is not None:
        found.null_rows = int(nulls.sum())
        if drop_nulls:
            found.usable = ~nulls
    label = arrays.label
    if label is not None:
        missing = null_mask(label)
        found.label_nulls = int(missing.sum()) if found.usable is None else int((missing & found.usable).sum())
        if classify and label.ndim == 1 and not found.label_nulls:
            seen = label if found.usable is None else label[found.usable]
            try:
                found.classes, found.class_counts = np.unique(seen, return_counts=True)
            except TypeError as error:
                raise InvalidTypeError(f"the labels have types that cannot be ordered together: {error}") from error
        if classify and label.ndim == 2 and not found.label_nulls:
            seen = label if found.usable is None else label[found.usable]
            found.other_labels = int(((seen != 0) & (seen != 1)).sum())
    if arrays.weight is not None:
        found.bad_weights = int((~np.isfinite(arrays.weight) | (arrays.weight < 0)).sum())
        found.weight = float(np.sum(arrays.weight, dtype=np.float64))
    if arrays.qid is not None:
        found.queries, numbers = np.unique(arrays.qid, return_inverse=True)
        found.query_of_row = numbers.astype(np.int32)
    return found


def merge(parts: Sequence[Survey]) -> Survey:
    """What is known of all blocks together."""
    total = Survey(sum(part.rows for part in parts))
    for name in ("null_rows", "infinite_rows", "label_nulls", "other_labels", "bad_weights"):
        setattr(total, name, sum(getattr(part, name) for part in parts))
    weighed = [part.weight for part in parts if part.weight is not None]
    total.weight = sum(weighed) if weighed else None
    counted = [part for part in parts if part.classes is not None and len(part.classes)]
    if counted:
        total.classes, places = np.unique(np.concatenate([part.classes for part in counted]), return_inverse=True)
        counts = np.concatenate([part.class_counts for part in counted])
        total.class_counts = np.bincount(places, weights=counts).astype(np.int64)
    asked = [
        (part.queries, part.query_of_row)
        for part in parts
        if part.queries is not None and part.query_of_row is not None and part.rows
    ]
    if asked:
        total.queries, places = np.unique(np.concatenate([queries for queries, _ in asked]), return_inverse=True)
        each = np.split(places.astype(np.int32), np.cumsum([len(queries) for queries, _ in asked])[:-1])
        numbered = [numbers[of_row] for numbers, (_, of_row) in zip(each, asked, strict=True)]
        total.query_of_row = np.concatenate(numbered)
    if any(part.usable is not None for part in parts):
        total.usable = np.concatenate(
            [np.ones(part.rows, bool) if part.usable is None else part.usable for part in parts]
        )
    if any(part.validation is not None for part in parts):
        total.validation = np.concatenate(
            [np.zeros(0, bool) if part.validation is None else part.validation for part in parts]
        )
    return total
