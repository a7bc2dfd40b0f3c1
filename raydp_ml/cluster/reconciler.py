"""Decides which executors to start and to stop, and through Reservations which of them lend their CPUs.

It is the only place that decides, and it knows neither Spark nor Ray.

Events go in (what Spark wants, which executor registered or ended), ``decide`` says what to do now. The clock is injected, so that
every sequence of events can be tested without a process.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from raydp_ml.cluster.reservations import Release, Reservations, Reserve


class State(enum.Enum):
    """Life of an executor as the master sees it."""

    STARTING = "starting"
    RUNNING = "running"
    LEAVING = "leaving"
    STOPPING = "stopping"


@dataclass(frozen=True)
class Start:
    """Start an executor of a resource profile."""

    executor_id: str
    profile_id: int


@dataclass(frozen=True)
class Stop:
    """End an executor."""

    executor_id: str


@dataclass(frozen=True)
class Fail:
    """Give the application up: its executors die at start again and again."""

    reason: str


Action = Start | Stop | Fail | Reserve | Release


@dataclass
class _Executor:
    profile_id: int
    state: State


class Reconciler:
    """Wanted against live executors.

    Parameters
    ----------
    clock : callable
        Seconds, monotonic.
    max_start_failures : int, default 4
        After so many executors in a row that ended before they registered, the application fails.
    first_delay, longest_delay : float
        Seconds of the first pause after such a failure, which doubles each time, and of the longest.
    lend_after : float, default 1.0
        Seconds without a task after which an executor lends its CPUs.

    Attributes
    ----------
    cpus : Reservations
        Decides on the CPUs of the executors; ``decide`` includes its actions.

    Examples
    --------
    >>> core = Reconciler(clock=lambda: 0.0)
    >>> core.want({0: 1})
    >>> core.decide()
    [Start(executor_id='0', profile_id=0)]
    >>> core.decide()
    []
    """

    def __init__(
        self,
        clock: Callable[[], float],
        max_start_failures: int = 4,
        first_delay: float = 0.5,
        longest_delay: float = 10.0,
        lend_after: float = 1.0,
    ) -> None:
        self.cpus = Reservations(clock, lend_after)
        self._clock = clock
        self._max_start_failures = max_start_failures
        self._first_delay = first_delay
        self._longest_delay = longest_delay
        self._wanted: dict[int, int] = {}
        self._executors: dict[str, _Executor] = {}
        self._next_id = 0
        self._failures = 0
        self._not_before = float("-inf")
        self._last_failure = ""
        self._failed = False
        self._stopping = False

    def want(self, totals: Mapping[int, int]) -> None:
        """Spark's wish: executors per resource profile; profiles that are not named keep theirs."""
        self._wanted.update(totals)

    def registered(self, executor_id: str) -> None:
        """An executor reported to the Spark driver."""
        executor = self._executors.get(executor_id)
        if executor is not None and executor.state is State.STARTING:
            executor.state = State.RUNNING
            self.cpus.registered(executor_id)
            self._failures = 0
            self._not_before = float("-inf")

    def kill(self, executor_ids: Iterable[str]) -> list[Action]:
        """Spark no longer wants these executors; it has lowered its totals itself if it wants no others for them."""
        actions: list[Action] = []
        for executor_id in executor_ids:
            executor = self._executors.get(executor_id)
            if executor is not None and executor.state is not State.STOPPING:
                executor.state = State.STOPPING
                actions.append(Stop(executor_id))
        return actions

    def leave(self, executor_ids: Iterable[str]) -> list[str]:
        """The nodes of these executors will go: they finish what they do, and others are started in their place.

        Returns
        -------
        list of str
            Those that Spark has to be told of: they run, and were not leaving before.
        """
        told = []
        for executor_id in executor_ids:
            executor = self._executors.get(executor_id)
            if executor is not None and executor.state is State.RUNNING:
                executor.state = State.LEAVING
                told.append(executor_id)
        return told

    def exited(self, executor_id: str, reason: str) -> bool:
        """An executor ended.

        Returns
        -------
        bool
            Whether that was unexpected; False for an executor that is unknown, was leaving or was being stopped.
        """
        executor = self._executors.pop(executor_id, None)
        self.cpus.ended(executor_id)
        if executor is None or executor.state in (State.STOPPING, State.LEAVING):
            return False
        if executor.state is State.STARTING:
            self._failures += 1
            self._last_failure = reason
            delay = min(self._longest_delay, self._first_delay * 2 ** (self._failures - 1))
            self._not_before = self._clock() + delay
        return True

    def stop(self) -> list[Action]:
        """End everything and start nothing any more."""
        self._stopping = True
        self.cpus.stop()
        return self.kill(list(self._executors))

    def decide(self) -> list[Action]:
        """What to do now so that live executors become what is wanted, and CPUs are with those who need them."""
        return [*self.cpus.decide(), *self._decide_executors()]

    def _decide_executors(self) -> list[Action]:
        if self._stopping or self._failed:
            return []
        if self._failures >= self._max_start_failures:
            self._failed = True
            return [
                Fail(
                    f"{self._failures} executors in a row ended before they registered; the last one: {self._last_failure}"
                )
            ]
        actions: list[Action] = []
        for profile_id, wanted in sorted(self._wanted.items()):
            live = [
                i
                for i, e in self._executors.items()
                if e.profile_id == profile_id and e.state in (State.STARTING, State.RUNNING)
            ]
            starting = [i for i in live if self._executors[i].state is State.STARTING]
            # Running executors above the target are Spark's to kill (they may hold blocks and tasks); those that have not
            # registered yet hold nothing.
            surplus = max(0, len(live) - wanted)
            actions += self.kill(starting[::-1][:surplus])
            if self._clock() >= self._not_before:
                for _ in range(wanted - len(live)):
                    executor_id = str(self._next_id)
                    self._next_id += 1
                    self._executors[executor_id] = _Executor(profile_id, State.STARTING)
                    actions.append(Start(executor_id, profile_id))
        return actions

    def wait(self) -> float | None:
        """Seconds until ``decide`` has something to do without a new event; None when only an event can change anything."""
        times = [self.cpus.wait()]
        if not self._stopping and not self._failed and self._not_before > self._clock():
            times.append(self._not_before - self._clock())
        return min((seconds for seconds in times if seconds is not None), default=None)

    def count(self, *states: State) -> int:
        """Executors in any of the given states (all states when none is given)."""
        return sum(1 for e in list(self._executors.values()) if not states or e.state in states)

    @property
    def wanted(self) -> int:
        """Executors wanted over all profiles."""
        return sum(self._wanted.values())
