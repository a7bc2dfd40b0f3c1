"""From a matrix of features to the arguments of a model's ``forward``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.frames.columns import Feature, column_slices

__all__ = ["Inputs", "as_dtype"]


@dataclass(frozen=True)
class Inputs:
    """How a matrix of features becomes the arguments of ``forward``.

    ``dtype`` is the type of the matrix. Columns in ``named`` do not stand in the matrix; each is given by its name, in its
    own type: ``(first column, width, dtype)``.
    """

    dtype: torch.dtype = torch.float32
    named: Mapping[str, tuple[slice, torch.dtype]] = field(default_factory=dict)
    rest: tuple[int, ...] | None = None

    @classmethod
    def of(cls, feature_types: Any, features: Sequence[Feature]) -> Inputs:
        """Read the parameter ``feature_types``.

        One type is that of the whole matrix, and a list (one for each column, as RayDP has it) gives the matrix the type
        that holds them all. A dict takes the columns that it names out of the matrix.
        """
        if feature_types is None:
            return cls()
        if isinstance(feature_types, Mapping):
            places = dict(column_slices(tuple(features)))
            unknown = [name for name in feature_types if name not in places]
            if unknown:
                raise InvalidValueError(
                    f"feature_types names {unknown}, which are not among the features {list(places)}"
                )
            named = {
                name: (part, as_dtype(feature_types[name], "feature_types"))
                for name, part in places.items()
                if name in feature_types
            }
            rest = [
                index
                for name, part in places.items()
                if name not in feature_types
                for index in range(part.start, part.stop)
            ]
            return cls(torch.float32, named, tuple(rest))
        if isinstance(feature_types, Sequence) and not isinstance(feature_types, str):
            if len(feature_types) != len(features):
                raise InvalidValueError(
                    f"feature_types has {len(feature_types)} types for {len(features)} feature columns"
                )
            dtype = as_dtype(feature_types[0], "feature_types")
            for item in feature_types[1:]:
                dtype = torch.promote_types(dtype, as_dtype(item, "feature_types"))
            return cls(dtype)
        return cls(as_dtype(feature_types, "feature_types"))

    def __call__(self, X: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
        """Positional and named arguments of ``forward`` for a float32 matrix."""
        if not self.named:
            return (X.to(self.dtype),), {}
        named = {}
        for name, (part, dtype) in self.named.items():
            column = X[:, part].to(dtype)
            named[name] = column[:, 0] if column.shape[1] == 1 else column
        if not self.rest:
            return (), named
        return (X[:, list(self.rest)],), named


def as_dtype(value: Any, argument: str) -> torch.dtype:
    """A torch type, or its name."""
    found = getattr(torch, value, None) if isinstance(value, str) else value
    if not isinstance(found, torch.dtype):
        raise InvalidTypeError(f"{argument}: {value!r} is not a torch dtype such as torch.float or torch.long")
    return found
