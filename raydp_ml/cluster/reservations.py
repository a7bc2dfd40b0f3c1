"""Decides which executors have their CPUs reserved in Ray, and which lend them. It knows neither Spark nor Ray.

Each executor has at most one reservation. It lends its CPUs, which means that the reservation is let go, when it has had no task
for a while, and at once when work of this driver asks for CPUs. It takes them again when it has tasks and nobody else wants them.
Spark's tasks never wait for a reservation: it only keeps other work of the cluster away from the cores.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

# Amounts of CPUs are floating-point numbers: Ray counts in steps of 0.0001.
_EPSILON = 1e-6
# A reservation that Ray has not made within these seconds is given up: while it waits, it is demand for new nodes.
_READY_SECONDS = 0.5
# An executor that starts gets more time, because its CPUs were its own a moment ago.
_READY_AT_START_SECONDS = 3.0
# After that, so many seconds pass before the executor tries again.
_RETRY_SECONDS = 2.0
# What Ray reports as free on a node may be older than the reservations of these seconds.
_REPORT_SECONDS = 2.0
# Ray needs up to 0.1 s until CPUs that were let go are free: work that asks again sooner would be given more than it needs.
_ASK_AGAIN_SECONDS = 0.5


@dataclass(frozen=True)
class Reserve:
    """Reserve CPUs for an executor on its node."""

    executor_id: str
    node_id: str
    cpus: float


@dataclass(frozen=True)
class Release:
    """Let the reservation of an executor go."""

    executor_id: str


class _Hold(enum.Enum):
    """Whether the CPUs of an executor are reserved."""

    LENT = "lent"
    REQUESTED = "requested"
    RESERVED = "reserved"


@dataclass
class _Cpus:
    """The CPUs of one executor."""

    node_id: str
    cpus: float
    hold: _Hold
    requested_at: float = 0.0
    give_up_at: float = float("inf")
    not_before: float = float("-inf")
    # The CPUs of an executor that starts were reserved with its place a moment ago, so they are free for it.
    starting: bool = True
    registered: bool = False
    busy: bool = False
    idle_since: float = 0.0

    @property
    def held(self) -> bool:
        return self.hold is not _Hold.LENT


@dataclass
class _Loan:
    """CPUs that work of this driver asked for, in pieces that each have to be on one node."""

    cpus: float
    each: float
    given: bool = False
    given_at: float = 0.0

    @property
    def pieces(self) -> int:
        return math.ceil(self.cpus / self.each - _EPSILON)


class Reservations:
    """CPU reservations of all executors.

    Parameters
    ----------
    clock : callable
        Seconds, monotonic.
    lend_after : float, default 1.0
        Seconds without a task after which an executor lends its CPUs.

    Examples
    --------
    >>> now = 0.0
    >>> cpus = Reservations(clock=lambda: now)
    >>> cpus.place("0", "a", 2.0)
    >>> cpus.decide()
    [Reserve(executor_id='0', node_id='a', cpus=2.0)]
    >>> cpus.reserved("0")
    >>> cpus.ask(1, cpus=1.0, each=1.0)
    >>> cpus.decide()
    [Release(executor_id='0')]
    """

    def __init__(self, clock: Callable[[], float], lend_after: float = 1.0) -> None:
        self._clock = clock
        self._lend_after = lend_after
        self._executors: dict[str, _Cpus] = {}
        self._ended: list[str] = []
        self._loans: dict[int, _Loan] = {}
        self._free: dict[str, float] | None = None
        self._demand = False
        self._lends_when_idle = False
        self._stopping = False

    # What happens.

    def place(self, executor_id: str, node_id: str, cpus: float) -> None:
        """An executor starts on a node where its CPUs were reserved until now."""
        self._executors[executor_id] = _Cpus(node_id, cpus, _Hold.LENT)

    def registered(self, executor_id: str) -> None:
        """An executor can run tasks from now on."""
        executor = self._executors.get(executor_id)
        if executor is not None and not executor.registered:
            executor.registered = True
            executor.idle_since = self._clock()

    def tasks(self, busy: Iterable[str]) -> None:
        """These executors have tasks, and the others have none."""
        now, names = self._clock(), set(busy)
        for executor_id, executor in self._executors.items():
            if executor.busy and executor_id not in names:
                executor.idle_since = now
            executor.busy = executor_id in names

    def reserved(self, executor_id: str) -> None:
        """Ray has made the reservation that was asked for."""
        executor = self._executors.get(executor_id)
        if executor is not None and executor.hold is _Hold.REQUESTED:
            executor.hold = _Hold.RESERVED

    def ended(self, executor_id: str) -> None:
        """An executor is gone."""
        executor = self._executors.pop(executor_id, None)
        if executor is not None and executor.held:
            self._ended.append(executor_id)

    def lend_when_idle(self, lends: bool) -> None:
        """Whether idle executors lend; at first they do not, as the next executors of a session that starts would take the CPUs."""
        self._lends_when_idle = lends

    def ask(self, loan: int, cpus: float, each: float) -> None:
        """Work of this driver wants CPUs now; until it ends, no executor takes CPUs back.

        Parameters
        ----------
        loan : int
            A number for :meth:`ask_again` and :meth:`end_loan`.
        cpus : float
            How many in all.
        each : float
            How many of them have to be on one node.
        """
        self._loans[loan] = _Loan(cpus, each)

    def ask_again(self, loan: int) -> None:
        """The work waits still: others took what was lent, or it is on nodes where it is too little."""
        waiting = self._loans.get(loan)
        if waiting is not None and self._clock() - waiting.given_at >= _ASK_AGAIN_SECONDS:
            waiting.given = False

    def end_loan(self, loan: int) -> None:
        """The work has ended."""
        self._loans.pop(loan, None)

    def see(self, free: Mapping[str, float], demand: bool) -> None:
        """The cluster as it is now; the next decision uses it, and none after it.

        Parameters
        ----------
        free : mapping
            Free CPUs of each node.
        demand : bool
            Whether others wait for CPUs.
        """
        self._free, self._demand = dict(free), demand

    def stop(self) -> None:
        """Reserve nothing any more."""
        self._stopping = True

    # What follows from it.

    def decide(self) -> list[Reserve | Release]:
        """What to do now."""
        actions: list[Reserve | Release] = [Release(executor_id) for executor_id in self._ended]
        self._ended = []
        free = self._seen_free()
        actions += self._give_up()
        actions += self._lend_idle(free)
        actions += self._lend_to_loans(free)
        if not self._stopping:
            actions += self._take(free)
        self._free = None
        return actions

    def _seen_free(self) -> dict[str, float]:
        """Free CPUs of each node, at least."""
        free = self._free or {}
        for executor in self._executors.values():
            if executor.held and self._clock() - executor.requested_at < _REPORT_SECONDS:
                free[executor.node_id] = max(0.0, free.get(executor.node_id, 0.0) - executor.cpus)
        return free

    def _give_up(self) -> list[Release]:
        """Requests that Ray does not fulfil at once are withdrawn."""
        now = self._clock()
        late = [i for i, e in self._executors.items() if e.hold is _Hold.REQUESTED and now >= e.give_up_at - _EPSILON]
        for executor_id in late:
            self._executors[executor_id].not_before = now + _RETRY_SECONDS
        return [self._release(executor_id) for executor_id in late]

    def _lend_idle(self, free: dict[str, float]) -> list[Release]:
        idle = [i for i, e in self._executors.items() if e.held and self._idle_at(e) <= self._clock() + _EPSILON]
        for executor_id in idle:
            executor = self._executors[executor_id]
            free[executor.node_id] = free.get(executor.node_id, 0.0) + executor.cpus
        return [self._release(executor_id) for executor_id in idle]

    def _idle_at(self, executor: _Cpus) -> float:
        """When it lends because it has no task."""
        if not self._lends_when_idle or executor.busy or not executor.registered:
            return float("inf")
        return executor.idle_since + self._lend_after

    def _lend_to_loans(self, free: dict[str, float]) -> list[Release]:
        """Let as many reservations go as make free what was asked for, or all; what is free for one loan is not for the next."""
        waiting = [loan for loan in self._loans.values() if not loan.given]
        # A reservation that is not there yet has no CPUs to give, but would take those that the loan gets.
        early = [i for i, e in self._executors.items() if waiting and e.hold is _Hold.REQUESTED]
        actions = [self._release(executor_id) for executor_id in early]
        for loan in waiting:
            loan.given, loan.given_at = True, self._clock()
            missing = loan.pieces
            # Nodes that need to lend least come first, so that few executors lend for pieces that are free already.
            for node_id in sorted(self._nodes() | set(free), key=lambda node: -free.get(node, 0.0)):
                taken, released = self._lend_on(node_id, free, loan.each, missing)
                missing -= taken
                actions += released
            if missing:
                # No node could hold the pieces that are missing with what its executors have: it may have more in a moment.
                actions += [self._release(i) for i, e in self._executors.items() if e.held]
        return actions

    def _lend_on(self, node_id: str, free: dict[str, float], each: float, missing: int) -> tuple[int, list[Release]]:
        """How many pieces one node gives, and the reservations that go for them: those of executors without tasks first."""
        holders = [(i, e) for i, e in self._executors.items() if e.held and e.node_id == node_id]
        holders.sort(key=lambda pair: pair[1].busy)
        reachable = free.get(node_id, 0.0) + sum(executor.cpus for _, executor in holders)
        pieces = min(missing, int(reachable / each + _EPSILON))
        left = free.get(node_id, 0.0) - pieces * each
        released = []
        for executor_id, executor in holders:
            if left >= -_EPSILON:
                break
            left += executor.cpus
            released.append(self._release(executor_id))
        free[node_id] = left
        return pieces, released

    def _nodes(self) -> set[str]:
        return {executor.node_id for executor in self._executors.values()}

    def _take(self, free: dict[str, float]) -> list[Reserve]:
        """Executors that start, and those that have tasks where nobody else wants the CPUs, reserve theirs."""
        actions = []
        for executor_id, executor in self._executors.items():
            starting, executor.starting = executor.starting, False
            if self._loans or not (starting or self._may_take(executor)):
                continue
            if not starting:
                if self._demand or free.get(executor.node_id, 0.0) < executor.cpus - _EPSILON:
                    continue
                free[executor.node_id] -= executor.cpus
            executor.hold = _Hold.REQUESTED
            executor.requested_at = self._clock()
            executor.give_up_at = self._clock() + (_READY_AT_START_SECONDS if starting else _READY_SECONDS)
            actions.append(Reserve(executor_id, executor.node_id, executor.cpus))
        return actions

    def _may_take(self, executor: _Cpus) -> bool:
        """Whether an executor that lends would take its CPUs if they were free."""
        wanted = executor.busy or not executor.registered
        return wanted and not executor.held and self._clock() >= executor.not_before

    def _release(self, executor_id: str) -> Release:
        self._executors[executor_id].hold = _Hold.LENT
        return Release(executor_id)

    # What others may ask.

    def wants_to_see(self) -> bool:
        """Whether a decision depends on the cluster's free CPUs."""
        if self._stopping:
            return False
        if self._loans:
            return any(not loan.given for loan in self._loans.values())
        return any(self._may_take(executor) for executor in self._executors.values())

    def wait(self) -> float | None:
        """Seconds until ``decide`` has something to do without a new event; None when only an event can change anything."""
        times = [
            min(self._idle_at(e), e.give_up_at if e.hold is _Hold.REQUESTED else float("inf"))
            for e in self._executors.values()
            if e.held
        ]
        first = min(times, default=float("inf"))
        return None if first == float("inf") else max(0.0, first - self._clock())

    def lending(self) -> dict[str, bool]:
        """Whether each executor lends its CPUs."""
        return {i: executor.hold is _Hold.LENT for i, executor in list(self._executors.items())}
