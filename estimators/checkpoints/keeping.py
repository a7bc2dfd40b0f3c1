"""How often checkpoints are written, and which of them stay."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raydp_ml.errors import InvalidValueError

__all__ = ["Keeping"]


@dataclass(frozen=True)
class Keeping:
    """How often checkpoints are written, and which of them stay.

    ``every`` counts epochs, or rounds of boosting. ``count`` is how many stay, None for all of them: the last ones, or those with
    the best ``metric``. The last one always stays, because that is the one to go on from.
    """

    every: int
    count: int | None = 2
    metric: str | None = None
    greater_is_better: bool = True

    def staying(self, epochs: Sequence[int], history: Sequence[Mapping[str, float]], spare: int = 0) -> set[int]:
        """Which checkpoints stay.

        Parameters
        ----------
        epochs : sequence of int
            After which epochs there are checkpoints.
        history : sequence of mapping
            The metrics of each epoch.
        spare : int, default=0
            How many of the last ones stay besides.

        Examples
        --------
        >>> history = [{"epoch": 1, "loss": 0.1}, {"epoch": 2, "loss": 0.9}, {"epoch": 3, "loss": 0.5}]
        >>> Keeping(1, count=2).staying([1, 2, 3], history)
        {2, 3}
        >>> Keeping(1, count=2, metric="loss", greater_is_better=False).staying([1, 2, 3], history)
        {1, 3}
        """
        ordered = sorted(epochs)
        if self.count is None or len(ordered) <= self.count:
            return set(ordered)
        last = ordered[-1 - spare :]
        others = ordered[: len(ordered) - len(last)]
        if self.metric is not None:
            self._check(history)
            others.sort(key=lambda epoch: self._value(history[epoch - 1]))
        more = self.count - 1
        return {*last, *(others[-more:] if more else ())}

    def _check(self, history: Sequence[Mapping[str, float]]) -> None:
        known = list(dict.fromkeys(name for metrics in history for name in metrics if name not in ("epoch", "seconds")))
        if self.metric not in known:
            raise InvalidValueError(
                f"checkpoint_score_attribute={self.metric!r} of run_config is not among the metrics: {', '.join(known)}"
            )

    def _value(self, metrics: Mapping[str, float]) -> float:
        """The metric of an epoch, more being better; the worst for an epoch in which it was not computed, or is NaN."""
        value = metrics.get(str(self.metric), math.nan)
        if math.isnan(value):
            return -math.inf
        return value if self.greater_is_better else -value
