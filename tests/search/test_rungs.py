"""Who goes on in successive halving, and what is fitted next: without Ray."""

from __future__ import annotations

import random

import pytest

from raydp_ml.search.rungs import Rungs, Share


class Search:
    """Plays a search: several processes take shares, and end them in an order that is drawn.

    Parameters
    ----------
    candidates : int
        How many there are; a candidate of a higher number is better at each step.
    processes : int
        How many run at once.
    seed : int
        Of the order.
    failing : set of int
        Candidates without scores.
    """

    def __init__(self, candidates: int, processes: int, seed: int = 0, failing: frozenset[int] = frozenset()) -> None:
        drawn, self.rungs, self.made, begun = random.Random(seed), Rungs(candidates, 3), [], 0
        running: list[Share] = []
        while not self.rungs.over:
            while len(running) < processes:
                share = self.rungs.first_share()
                if share is None and begun < candidates:
                    self.rungs.enter(begun, steps=3)
                    begun += 1
                    continue
                share = share or self.rungs.next_share()
                if share is None:
                    break
                running.append(share)
            share = running.pop(drawn.randrange(len(running)))
            for fold in share.folds:
                score = None if share.candidate in failing else share.candidate + fold / 10
                self.rungs.record(share.candidate, share.step, fold, score, drawn.random())
                self.made.append((share.candidate, share.step, fold))

    def through(self) -> list[int]:
        """Candidates that came to the end."""
        ended = {candidate for candidate, step, _ in self.made if step == 2}
        return sorted(candidate for candidate in ended if self.rungs.reached(candidate) == 2)


@pytest.mark.parametrize("processes", [1, 3, 16])
def test_the_same_candidates_go_on_in_whatever_order_fits_end(processes: int) -> None:
    for seed in range(20):
        search = Search(32, processes, seed)
        assert search.through() == [30, 31]  # a quarter of the eight that came to the second rung
        assert [search.rungs.reached(number) for number in range(32)] == [0] * 24 + [1] * 6 + [2] * 2
        assert sorted(search.rungs.take_decided()) == list(range(32))
        assert len(search.made) == len(set(search.made))  # nothing is fitted twice
        if processes == 1:
            steps = [step for _, step, _ in search.made]
            assert [steps.count(step) for step in range(3)] == [96, 24, 6]  # nothing is begun in vain


def test_few_candidates_and_failing_ones() -> None:
    assert [Search(candidates, 1).through() for candidates in (1, 2, 3, 4, 5)] == [[0], [1], [2], [3], [4]]
    search = Search(4, 2, failing=frozenset({3, 2}))
    assert search.through() == [1]
    assert not any(step for candidate, step, _ in search.made if candidate in (2, 3))
    assert Search(3, 2, failing=frozenset({0, 1, 2})).through() == []


def test_a_free_process_begins_with_the_leading_candidate() -> None:
    rungs = Rungs(4, 2)
    for number in range(4):
        rungs.enter(number, steps=3)
        assert rungs.first_share() == Share(number, 0, (0, 1))
    for number, score in ((0, 0.5), (1, 0.7)):
        for fold in range(2):
            rungs.record(number, 0, fold, score, 1.0)
    assert rungs.decided(0)  # one of four goes on, and it is not this one
    assert rungs.next_share() == Share(1, 1, (0,))  # not sure of its place yet
    for number, score in ((2, 0.9), (3, 0.1)):
        for fold in range(2):
            rungs.record(number, 0, fold, score, 1.0)
    assert [rungs.decided(number) for number in range(4)] == [True, True, False, True]
    assert rungs.next_share() == Share(2, 1, (0,))


def test_candidates_with_fewer_steps_begin_at_a_later_rung() -> None:
    rungs = Rungs(2, 1)
    rungs.enter(0, steps=1)
    rungs.enter(1, steps=3)
    shares = [rungs.next_share(), rungs.next_share()]
    assert shares == [Share(1, 0, (0,)), Share(0, 0, (0,))]
    rungs.record(0, 0, 0, 0.9, 1.0)
    rungs.record(1, 0, 0, 0.1, 1.0)
    assert rungs.next_share() == Share(1, 1, (0,))  # the best of its rung goes on, whatever others have at the end
    rungs.fail(1)
    assert rungs.over
