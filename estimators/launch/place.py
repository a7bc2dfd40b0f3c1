"""What every place where a fit can run offers."""

from __future__ import annotations

from abc import ABC, abstractmethod

from raydp_ml.estimators.launch.assignment import Assignment
from raydp_ml.estimators.launch.rows import Side
from raydp_ml.estimators.protocol import Outcome
from raydp_ml.estimators.shards import Shard
from raydp_ml.frames.arrays import Arrays, Blocks

__all__ = ["Place"]


class Place(ABC):
    """Where a fit runs."""

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many workers train; 0 for the user's process."""

    def prepare(self) -> None:  # noqa: B027 - by default nothing can start before the rows are there
        """Start what training will need, while the rows are still computed and on their way."""

    def close(self) -> None:  # noqa: B027 - by default nothing is held
        """Let go of what was held for this fit; called once, also after an error."""

    @abstractmethod
    def look(self, data: Arrays | Blocks, classify: bool, drop_nulls: bool, keep: bool = True) -> Side:
        """Survey all rows.

        Parameters
        ----------
        data : Arrays or Blocks
            The rows.
        classify : bool
            Whether to count classes.
        drop_nulls : bool
            Whether rows with a null feature are left out.
        keep : bool, default=True
            Whether what is read for this may stay in memory for the training.
        """

    @abstractmethod
    def train(self, assignment: Assignment, shards: list[Shard], validation: list[Shard]) -> Outcome:
        """Train, and bring the fitted model and its history into this process.

        Parameters
        ----------
        assignment : Assignment
            What every worker is told.
        shards : list of Shard
            The training rows of each worker.
        validation : list of Shard
            The rows that each worker validates on; empty for none.
        """
