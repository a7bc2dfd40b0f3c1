"""Which worker gets which rows, and what is known of them before training."""

from __future__ import annotations

import numpy as np
import pytest

from raydp_ml.estimators.shards import split
from raydp_ml.estimators.survey import merge, survey
from raydp_ml.frames.arrays import Arrays


def arrays_of(count, start=0):
    numbers = np.arange(start, start + count)
    return Arrays(numbers[:, None].astype(np.float32), numbers)


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
@pytest.mark.parametrize("sizes", [[10], [1, 0, 5, 4], [3, 3, 4]])
def test_no_row_is_lost_and_workers_differ_by_one(workers, sizes):
    blocks = [arrays_of(size, start) for size, start in zip(sizes, np.cumsum([0, *sizes]), strict=False)]
    shards = split(blocks, sizes, None, workers, None)
    rows = [shard.load().label for shard in shards]
    assert np.concatenate(rows).tolist() == list(range(10))
    counts = [len(row) for row in rows]
    assert counts == [shard.rows for shard in shards] and max(counts) - min(counts) <= 1


def test_chosen_rows_are_divided_evenly_wherever_they_lie():
    # The last rows are held out, as a split by time has it: both workers still train on the same number of rows.
    blocks, mask = [arrays_of(6), arrays_of(4, 6)], np.arange(10) < 5
    mask[2] = False
    shards = split(blocks, [6, 4], mask, 2, None)
    assert [shard.load().label.tolist() for shard in shards] == [[0, 1], [3, 4]]


def test_a_survey_counts_what_matters_and_merges():
    X = np.array([[1.0], [np.nan], [np.inf], [2.0]], np.float32)
    first = survey(Arrays(X, np.array(["b", "a", None, "b"], object), np.array([1, -1, 0, np.nan])), True, False)
    assert (first.null_rows, first.infinite_rows, first.label_nulls, first.bad_weights) == (1, 1, 1, 2)
    dropped = survey(Arrays(X[:2], np.array(["b", "a"])), True, True)
    whole = merge([dropped, survey(Arrays(X[3:], np.array(["c"])), True, True)])
    assert whole.classes.tolist() == ["b", "c"] and whole.class_counts.tolist() == [1, 1]
    assert whole.usable.tolist() == [True, False, True] and whole.rows == 3
