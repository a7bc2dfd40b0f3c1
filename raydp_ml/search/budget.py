"""How a candidate is fitted in steps that a scheduler can stop between: at a part of its epochs or rounds, then at more.

Each step is a fit of its own, from the beginning, as in scikit-learn's ``HalvingGridSearchCV``. A candidate that is not stopped
ends with the fit that it would have had without a scheduler, so that its scores are the same, and learning rate schedules and
early stopping mean what they say. Steps grow by ``FACTOR``, so the earlier ones cost a third of the last one together.
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any

__all__ = ["FACTOR", "STEPS", "Budget"]

FACTOR = 4
STEPS = 3
# The parameter that says how long an estimator trains, of ours and of scikit-learn's.
_RESOURCES = ("num_boost_round", "num_epochs", "n_estimators")


@dataclass(frozen=True)
class Budget:
    """The steps of one candidate.

    Parameters
    ----------
    param : str or None
        The parameter that says how long it trains; None: it has none, and is fitted once.
    amounts : tuple of int
        The value of that parameter in each step.
    """

    param: str | None
    amounts: tuple[int, ...]

    @classmethod
    def whole(cls) -> Budget:
        """One step, with the estimator as it is."""
        return cls(None, (1,))

    @classmethod
    def of(cls, estimator: Any) -> Budget:
        """The steps of an estimator.

        Parameters
        ----------
        estimator : estimator
            Epochs, rounds or trees are looked for among its parameters, those of nested estimators included.

        Examples
        --------
        >>> from sklearn.ensemble import RandomForestClassifier
        >>> Budget.of(RandomForestClassifier(n_estimators=100)).amounts
        (7, 25, 100)
        """
        params = estimator.get_params(deep=True)
        for name in sorted(params, key=lambda name: name.count("__")):
            value = params[name]
            if name.rpartition("__")[2] in _RESOURCES and isinstance(value, numbers.Integral) and int(value) > 1:
                parts = [-(-int(value) // FACTOR**power) for power in reversed(range(STEPS))]
                return cls(name, tuple(dict.fromkeys(parts)))
        return cls.whole()

    def __len__(self) -> int:
        return len(self.amounts)

    def amount(self, step: int) -> int:
        """The epochs or rounds of a step, or 1 when there is one step only."""
        return self.amounts[step]

    def time(self, step: int) -> int:
        """Where a step stands on a scale on which the last is the same for all candidates, whatever their epochs."""
        return int(FACTOR ** (step + STEPS - len(self)))

    def apply(self, estimator: Any, step: int) -> None:
        """Set the parameter of an estimator for a step."""
        if self.param is not None and step < len(self) - 1:
            estimator.set_params(**{self.param: self.amounts[step]})
