"""From the matrices of features to the arguments of a model's ``forward``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.frames.columns import Feature
from raydp_ml.frames.layouts import places

__all__ = ["Inputs", "as_dtype", "typed"]


# What features cross as where the model takes them in a type that float32 does not hold; torch casts from there.
_CROSS_AS = {torch.float64: "float64"} | {
    dtype: "int64" for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
}


def typed(feature_types: Any, features: Sequence[Feature]) -> tuple[Feature, ...]:
    """Features in the types in which they reach the model.

    Parameters
    ----------
    feature_types : dtype, list or dict, optional
        The parameter of the estimator: one type is that of the whole matrix, and a list (one for each column, as RayDP has it)
        gives the matrix the type that holds them all. A dict takes the columns that it names out of the matrix. A layout is that of
        the matrix, which is float32.
    features : sequence of Feature
        The feature columns.
    """
    if isinstance(feature_types, Mapping):
        names = [feature.name for feature in features]
        unknown = [name for name in feature_types if name not in names]
        if unknown:
            raise InvalidValueError(f"feature_types names {unknown}, which are not among the features {names}")
        types = [as_dtype(feature_types.get(name, torch.float32), "feature_types") for name in names]
    else:
        types = [_matrix_type(feature_types, len(features))] * len(features)
    return tuple(
        replace(feature, dtype=_CROSS_AS.get(dtype, "float32")) for feature, dtype in zip(features, types, strict=True)
    )


def _matrix_type(feature_types: Any, columns: int) -> torch.dtype:
    """The type of the one matrix of all features."""
    if feature_types is None:
        return torch.float32
    if isinstance(feature_types, torch.layout):
        if feature_types is not torch.sparse_csr:
            raise InvalidValueError(
                f"feature_types={feature_types} is a layout that rows are not given in; torch.sparse_csr is the one of sparse rows"
            )
        return torch.float32
    if not isinstance(feature_types, Sequence) or isinstance(feature_types, str):
        return as_dtype(feature_types, "feature_types")
    if len(feature_types) != columns:
        raise InvalidValueError(f"feature_types has {len(feature_types)} types for {columns} feature columns")
    dtype = as_dtype(feature_types[0], "feature_types")
    for item in feature_types[1:]:
        dtype = torch.promote_types(dtype, as_dtype(item, "feature_types"))
    return dtype


@dataclass(frozen=True)
class Inputs:
    """How the matrices of features become the arguments of ``forward``.

    ``dtype`` is the type of the one matrix that the model takes. Columns in ``named`` do not stand in it; each is given by its
    name, in its own type: ``(number of its matrix, columns there, dtype)``. ``rest`` says likewise where the others are. ``layout``
    is that of the tensor which the model is given of sparse rows.
    """

    dtype: torch.dtype = torch.float32
    named: Mapping[str, tuple[int, slice, torch.dtype]] = field(default_factory=dict)
    rest: tuple[int, tuple[int, ...]] | None = None
    layout: torch.layout = torch.strided

    @classmethod
    def of(cls, feature_types: Any, features: Sequence[Feature]) -> Inputs:
        """Read the parameter ``feature_types``, see :func:`typed`."""
        if not isinstance(feature_types, Mapping):
            dtype = _matrix_type(feature_types, len(features))
            return cls(dtype, layout=feature_types) if isinstance(feature_types, torch.layout) else cls(dtype)
        where = places(typed(feature_types, features))
        named = {
            name: (*where[name], as_dtype(dtype, "feature_types"))
            for name, dtype in feature_types.items()
            if name in where
        }
        rest = [where[feature.name] for feature in features if feature.name not in feature_types]
        columns = tuple(index for _, part in rest for index in range(part.start, part.stop))
        return cls(torch.float32, named, (rest[0][0], columns) if rest else None)

    def __call__(self, groups: Sequence[torch.Tensor]) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
        """Positional and named arguments of ``forward`` for the matrices of features, one for each type."""
        if not self.named:
            return (groups[0].to(self.dtype),), {}
        named = {}
        for name, (number, part, dtype) in self.named.items():
            column = groups[number][:, part].to(dtype)
            named[name] = column[:, 0] if column.shape[1] == 1 else column
        if self.rest is None:
            return (), named
        number, columns = self.rest
        return (groups[number][:, list(columns)],), named


def as_dtype(value: Any, argument: str) -> torch.dtype:
    """A torch type, or its name."""
    found = getattr(torch, value, None) if isinstance(value, str) else value
    if not isinstance(found, torch.dtype):
        raise InvalidTypeError(f"{argument}: {value!r} is not a torch dtype such as torch.float or torch.long")
    return found
