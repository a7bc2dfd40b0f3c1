"""Training in the user's process."""

from __future__ import annotations

from raydp_ml.estimators.launch.assignment import Assignment
from raydp_ml.estimators.launch.place import Place
from raydp_ml.estimators.launch.rows import Side, job_of, look_here
from raydp_ml.estimators.launch.training import train
from raydp_ml.estimators.protocol import Outcome
from raydp_ml.estimators.shards import Shard
from raydp_ml.frames.arrays import Arrays, Blocks

__all__ = ["ThisProcess"]


class ThisProcess(Place):
    """The user's process.

    Parameters
    ----------
    use_gpu : bool
        Whether to train on a GPU.
    """

    def __init__(self, use_gpu: bool = False) -> None:
        self._use_gpu = use_gpu

    @property
    def workers(self) -> int:
        """None but this process."""
        return 0

    def look(self, data: Arrays | Blocks, classify: bool, drop_nulls: bool, keep: bool = True) -> Side:
        """Survey all rows."""
        return look_here(data, classify, drop_nulls, keep)

    def train(self, assignment: Assignment, shards: list[Shard], validation: list[Shard]) -> Outcome:
        """Train on all rows."""
        return train(assignment, job_of(assignment, 0, shards, validation, None, self._use_gpu))
