"""Loss and metrics of one pass over the rows, of all workers together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from raydp_ml.estimators.torch.losses import to_predictions
from raydp_ml.estimators.torch.metrics import Metric
from raydp_ml.estimators.torch.shared_sums import SharedSums

__all__ = ["Tally", "Workers"]


@dataclass(frozen=True)
class Workers:
    """The workers of a training, as they talk to each other; through shared memory where ``sums`` is given."""

    count: int
    device: torch.device
    sums: SharedSums | None = None

    def total(self, values: Sequence[float]) -> list[float]:
        """Numbers summed over the workers."""
        if self.count == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64, device=self.device)
        if self.sums is None:
            torch.distributed.all_reduce(summed)
        else:
            self.sums.add(summed)
        return summed.tolist()

    def all_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows of all workers, one worker's after the other's, whose counts may differ."""
        if self.count == 1:
            return rows
        own = torch.tensor([len(rows)], device=self.device)
        counts = [torch.zeros_like(own) for _ in range(self.count)]
        torch.distributed.all_gather(counts, own)
        longest = int(max(counts))
        padded = torch.zeros((longest, *rows.shape[1:]), dtype=rows.dtype, device=self.device)
        padded[: len(rows)] = rows.to(self.device)
        gathered = [torch.empty_like(padded) for _ in range(self.count)]
        torch.distributed.all_gather(gathered, padded)
        return torch.cat([part[: int(count)] for part, count in zip(gathered, counts, strict=True)]).cpu()


class Tally:
    """Gathers losses, and outputs where metrics are asked for, and computes at the end, so that no step waits for a number.

    Parameters
    ----------
    metrics : mapping
        Metrics by name.
    kind, task : str
        How outputs become predictions.
    workers : Workers
        Whose rows count.
    """

    def __init__(
        self,
        metrics: Mapping[str, Metric],
        kind: str | None,
        task: str,
        workers: Workers,
    ) -> None:
        self._metrics, self._kind, self._task, self._workers = metrics, kind, task, workers
        self._losses: list[torch.Tensor] = []
        self._factors: list[float] = []
        self._count = 0.0
        self._outputs: list[torch.Tensor] = []
        self._labels: list[torch.Tensor] = []
        self._weights: list[torch.Tensor] = []

    def add(self, loss: torch.Tensor, factor: float, count: float, prediction: Any, y: Any, weight: Any) -> None:
        """Take one batch: its loss times ``factor`` is the sum over rows, which count ``count`` together."""
        self._losses.append(loss)
        self._factors.append(factor)
        self._count += count
        if self._metrics:
            self._outputs.append(prediction)
            self._labels.append(y)
            if weight is not None:
                self._weights.append(weight)

    def result(self, side: str) -> dict[str, float]:
        """The mean loss and the metrics, with the side in front of their names."""
        losses = torch.stack(self._losses).double().cpu() if self._losses else torch.zeros(0, dtype=torch.float64)
        loss = float(losses @ torch.tensor(self._factors, dtype=torch.float64))
        total, count = self._workers.total([loss, self._count])
        found = {f"{side}_loss": total / max(count, 1e-12)}
        if self._metrics:
            predicted = to_predictions(torch.cat(self._outputs), self._kind, self._task)
            labels = self._workers.all_rows(torch.cat(self._labels).cpu()).numpy()
            rows = self._workers.all_rows(torch.from_numpy(predicted)).numpy()
            weight = self._workers.all_rows(torch.cat(self._weights).cpu()).numpy() if self._weights else None
            found.update({f"{side}_{name}": metric(labels, rows, weight) for name, metric in self._metrics.items()})
        return found
