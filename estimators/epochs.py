"""The steps of an epoch, for all backends that train in batches.

``batch_size`` counts the rows of all workers together: each takes an even share of a batch, rounded up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raydp_ml.errors import InvalidValueError

__all__ = ["plan_epoch", "share_of"]


def share_of(batch_size: int, workers: int) -> int:
    """How many rows of a batch each worker takes.

    Examples
    --------
    >>> share_of(7, 2)
    4
    """
    return -(-batch_size // workers)


def plan_epoch(rows: Sequence[int], batch_size: int, drop_last: bool) -> np.ndarray:
    """How many rows each worker takes in each step: one line for each worker, as many steps for all.

    Parameters
    ----------
    rows : sequence of int
        How many rows each worker has.
    batch_size : int
        Rows in a step, of all workers together.
    drop_last : bool
        Whether to leave out, in each epoch, the rows that do not fill a batch.

    Returns
    -------
    numpy.ndarray of int, shape (workers, steps)
        In the last step workers may have fewer rows, or none.

    Raises
    ------
    InvalidValueError
        When no batch is full, and those that are not are to be dropped.

    Examples
    --------
    >>> plan_epoch([5, 4], 4, drop_last=False).tolist()
    [[2, 2, 1], [2, 2, 0]]
    >>> plan_epoch([5, 4], 4, drop_last=True).tolist()
    [[2, 2], [2, 2]]
    """
    share = share_of(batch_size, len(rows))
    if drop_last:
        steps = min(rows) // share
        if not steps:
            raise InvalidValueError(
                f"drop_last=True leaves no batch: batch_size={batch_size} is larger than the {sum(rows)} training rows; lower "
                "it, or set drop_last=False"
            )
        return np.full((len(rows), steps), share)
    steps = -(-max(rows) // share)
    starts = np.arange(steps) * share
    return np.clip(np.asarray(rows)[:, None] - starts[None, :], 0, share)
