"""When the JVM is asked to look for frames that nobody holds."""

from __future__ import annotations

from itertools import pairwise

from raydp_ml.exchange.lease_collector import LONGEST_PAUSE, SHORTEST_PAUSE, CollectionPace


def asked(pace: CollectionPace, seconds: int) -> list[int]:
    """The seconds at which a collection is due, each of which frees nothing."""
    times = []
    for now in range(seconds):
        if pace.is_due(float(now)):
            pace.collected(float(now))
            times.append(now)
    return times


def test_nothing_is_due_before_a_frame_is_dropped() -> None:
    pace = CollectionPace()
    assert not pace.waits
    assert asked(pace, 100) == []


def test_frames_that_live_on_are_looked_for_less_and_less_often() -> None:
    pace = CollectionPace()
    pace.dropped("derived", 0.0)
    times = asked(pace, 300)
    gaps = [after - before for before, after in pairwise(times)]
    assert gaps == [5, 10, 20, 40, *[LONGEST_PAUSE] * 3]


def test_a_dropped_frame_and_an_ended_lease_shorten_the_pause() -> None:
    pace = CollectionPace()
    pace.dropped("a", 0.0)
    asked(pace, 60)
    assert pace.pause > SHORTEST_PAUSE
    pace.dropped("b", 60.0)
    assert pace.pause == SHORTEST_PAUSE
    pace.collected(62.0)
    pace.still_held(["a", "b"])
    assert pace.pause > SHORTEST_PAUSE
    pace.still_held(["a"])
    assert pace.pause == SHORTEST_PAUSE
    pace.still_held([])
    assert not pace.waits
    assert asked(pace, 600) == []
