"""The one plan of an epoch's steps: every row once, as many steps on every worker."""

from __future__ import annotations

import numpy as np
import pytest

from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.epochs import plan_epoch

ROWS = [[10, 7], [1, 1], [1000, 3], [256, 257], [255_500, 256_000], [5], [3, 3, 4]]


@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize("batch_size", [1, 5, 256])
def test_all_ranks_make_the_same_steps_and_use_each_row_once(rows: list[int], batch_size: int) -> None:
    sizes = plan_epoch(rows, batch_size, drop_last=False)
    assert sizes.shape[0] == len(rows) and sizes.sum(axis=1).tolist() == rows
    assert sizes.sum(axis=0).min() >= 1 and sizes.sum(axis=0).max() < batch_size + len(rows)


def test_one_worker_has_the_batches_of_a_plain_loop() -> None:
    assert plan_epoch([50], 16, drop_last=False).tolist() == [[16, 16, 16, 2]]


def test_drop_last_plans_full_batches_only() -> None:
    np.testing.assert_array_equal(plan_epoch([100, 70], 64, drop_last=True), [[32, 32], [32, 32]])
    with pytest.raises(InvalidValueError, match="drop_last=True leaves no batch: batch_size=64 is larger than the 20"):
        plan_epoch([10, 10], 64, drop_last=True)
