"""One fold as a trial sees it, and what gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["Fold", "Folds", "Part"]


@dataclass(frozen=True)
class Part:
    """The training or the test rows of a fold.

    Parameters
    ----------
    X : array or frame
        The rows.
    y : array or None
        Their labels; None where they are in a column of X.
    weight : array or None
        Weights of the rows, for fits and scores; None where a column of X has them, or there are none.
    """

    X: Any
    y: Any = None
    weight: Any = None


@dataclass(frozen=True)
class Fold:
    """Rows to train on, rows to test on, and the fit parameters of the training rows."""

    train: Part
    test: Part
    fit_params: Mapping[str, Any] = field(default_factory=dict)


class Folds(Protocol):
    """What trials ask for folds."""

    def fold(self, prefix: int, number: int) -> Fold:
        """The fold of this number behind the Spark steps of this number."""
        ...
