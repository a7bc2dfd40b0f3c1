"""Who has CPUs, the executors or others: decided without Spark and Ray, on sequences of events with a clock that the test turns."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raydp_ml.cluster.reservations import Release, Reservations, Reserve

NODES = {"a": 4.0, "b": 3.0}
SIZES = {"a": 2.0, "b": 1.0}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def running(clock: Clock, count: int = 1, node: str = "a", cpus: float = 1.0) -> Reservations:
    """Executors that have registered and hold their CPUs."""
    core = Reservations(clock, lend_after=1.0)
    core.lend_when_idle(True)
    for number in range(count):
        core.place(str(number), node, cpus)
    assert core.decide() == [Reserve(str(number), node, cpus) for number in range(count)]
    for number in range(count):
        core.reserved(str(number))
        core.registered(str(number))
    return core


def test_an_executor_without_tasks_lends_after_a_second_and_takes_back_with_the_next_task() -> None:
    clock = Clock()
    core = running(clock)
    assert core.decide() == [] and core.wait() == 1.0
    clock.now = 1.0
    assert core.decide() == [Release("0")] and core.lending() == {"0": True}
    assert not core.wants_to_see() and core.wait() is None
    clock.now = 5.0
    core.tasks(["0"])
    assert core.wants_to_see() and core.decide() == []  # what is free has to be seen first
    core.see({"a": 1.0}, demand=False)
    assert core.decide() == [Reserve("0", "a", 1.0)]


def test_nothing_is_taken_back_that_others_have_or_wait_for() -> None:
    clock = Clock()
    core = running(clock, cpus=2.0)
    clock.now = 1.0
    core.decide()
    core.tasks(["0"])
    core.see({"a": 1.0, "b": 8.0}, demand=False)
    assert core.decide() == []
    core.see({"a": 2.0}, demand=True)
    assert core.decide() == []
    core.see({"a": 2.0}, demand=False)
    assert core.decide() == [Reserve("0", "a", 2.0)]


def test_a_reservation_that_does_not_come_in_half_a_second_is_given_up_and_tried_later() -> None:
    clock = Clock()
    core = running(clock)
    clock.now = 1.0
    core.decide()
    core.tasks(["0"])
    core.see({"a": 1.0}, demand=False)
    assert core.decide() == [Reserve("0", "a", 1.0)] and core.wait() == 0.5
    clock.now = 1.5
    assert core.decide() == [Release("0")]
    core.see({"a": 1.0}, demand=False)
    assert core.decide() == [] and not core.wants_to_see()
    clock.now = 3.5
    core.see({"a": 1.0}, demand=False)
    assert core.decide() == [Reserve("0", "a", 1.0)]


def test_busy_executors_give_what_is_asked_for_at_once_and_take_it_back_afterwards() -> None:
    clock = Clock()
    core = running(clock, 3)
    core.tasks(["0", "1"])
    core.ask(1, cpus=2.0, each=1.0)
    assert core.decide() == [Release("2"), Release("0")]  # the one without tasks first
    core.see({"a": 2.0}, demand=False)
    assert core.decide() == []
    clock.now = 10.0
    core.end_loan(1)
    core.see({"a": 2.0}, demand=False)
    assert core.decide() == [Reserve("0", "a", 1.0)]


def test_what_is_free_already_is_not_lent_and_a_piece_is_on_one_node() -> None:
    clock = Clock()
    core = Reservations(clock)
    for executor_id, node in (("0", "a"), ("1", "b"), ("2", "b")):
        core.place(executor_id, node, 1.0)
    core.decide()
    for executor_id in ("0", "1", "2"):
        core.reserved(executor_id)
    core.see({"a": 0.0, "b": 0.0, "c": 2.0}, demand=False)
    core.ask(1, cpus=4.0, each=2.0)
    assert core.decide() == [Release("1"), Release("2")]


def test_free_cpus_that_are_reported_late_are_not_counted() -> None:
    core = running(Clock(), 2)
    core.tasks(["0", "1"])
    core.ask(1, cpus=1.0, each=1.0)
    core.see({"a": 2.0}, demand=False)  # as it was before both took theirs
    assert core.decide() == [Release("0")]


def test_work_that_asks_again_is_given_more() -> None:
    clock = Clock()
    core = running(clock, 2)
    core.tasks(["0", "1"])
    core.ask(1, cpus=1.0, each=1.0)
    assert core.decide() == [Release("0")]
    core.ask_again(1)
    assert core.decide() == []  # the CPUs are on their way
    clock.now = 0.6
    core.ask_again(1)
    core.see({"a": 0.0}, demand=True)
    assert core.decide() == [Release("1")]


def test_executors_of_a_session_that_starts_keep_their_cpus() -> None:
    clock = Clock()
    core = running(clock)
    core.lend_when_idle(False)
    clock.now = 100.0
    assert core.decide() == []
    core.lend_when_idle(True)
    assert core.decide() == [Release("0")]


class AnyOrder(RuleBasedStateMachine):
    """Executors and other work on two nodes, whatever the order of events; the test plays Ray."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.core = Reservations(self.clock, lend_after=1.0)
        self.core.lend_when_idle(True)
        self.nodes: dict[str, str] = {}
        self.registered_ids: set[str] = set()
        self.busy: set[str] = set()
        # Groups that the test, as Ray, was asked for: by executor, whether they are there.
        self.groups: dict[str, bool] = {}
        self.others = dict.fromkeys(NODES, 0.0)
        self.loans: set[int] = set()
        self.next_id = 0

    def free(self) -> dict[str, float]:
        free = {node: total - self.others[node] for node, total in NODES.items()}
        for executor_id, there in self.groups.items():
            if there:
                node = self.nodes[executor_id]
                free[node] -= SIZES[node]
        return free

    def decide(self, demand: bool = False) -> list:
        self.core.see(self.free(), demand)
        actions = self.core.decide()
        for action in actions:
            if isinstance(action, Release):
                del self.groups[action.executor_id]  # a KeyError when there is none
            else:
                assert action.executor_id not in self.groups
                assert action.executor_id in self.nodes and not self.loans
                self.groups[action.executor_id] = False
        self.nodes = {i: node for i, node in self.nodes.items() if i in self.core.lending()}
        assert set(self.groups) <= set(self.nodes)
        return actions

    def pick(self, names: set[str], number: int) -> str:
        return sorted(names)[number % len(names)]

    @rule(node=st.sampled_from(sorted(NODES)))
    def place(self, node: str) -> None:
        executor_id, self.next_id = str(self.next_id), self.next_id + 1
        self.nodes[executor_id] = node
        self.core.place(executor_id, node, SIZES[node])
        self.decide()

    @precondition(lambda self: self.nodes)
    @rule(number=st.integers(0, 99))
    def register(self, number: int) -> None:
        executor_id = self.pick(set(self.nodes), number)
        self.registered_ids.add(executor_id)
        self.core.registered(executor_id)
        self.decide()

    @rule(chosen=st.sets(st.integers(0, 9)))
    def tasks(self, chosen: set[int]) -> None:
        self.busy = {i for n, i in enumerate(sorted(self.registered_ids & set(self.nodes))) if n in chosen}
        self.core.tasks(self.busy | {"unknown"})
        self.decide()

    @rule()
    def ray_makes_groups(self) -> None:
        for executor_id, there in list(self.groups.items()):
            node = self.nodes[executor_id]
            if not there and self.free()[node] >= SIZES[node]:
                self.groups[executor_id] = True
                self.core.reserved(executor_id)
        self.decide()

    @precondition(lambda self: self.nodes)
    @rule(number=st.integers(0, 99), twice=st.booleans())
    def end(self, number: int, twice: bool) -> None:
        executor_id = self.pick(set(self.nodes), number)
        for _ in range(1 + twice):
            self.core.ended(executor_id)
        self.core.reserved(executor_id)
        had = executor_id in self.groups
        assert (Release(executor_id) in self.decide()) == had

    @rule(cpus=st.sampled_from([0.5, 1.0, 2.0, 5.0]), each=st.sampled_from([0.5, 1.0, 2.0]))
    def ask(self, cpus: float, each: float) -> None:
        loan, self.next_id = self.next_id, self.next_id + 1
        self.loans.add(loan)
        self.core.ask(loan, cpus, each)
        self.decide()
        pieces = sum(int(free / each) for free in self.free().values())
        assert pieces * each >= cpus or not self.groups

    @precondition(lambda self: self.loans)
    @rule(number=st.integers(0, 99), ends=st.booleans())
    def loan(self, number: int, ends: bool) -> None:
        chosen = sorted(self.loans)[number % len(self.loans)]
        if ends:
            self.loans.discard(chosen)
            self.core.end_loan(chosen)
        else:
            self.core.ask_again(chosen)
        self.decide()

    @rule(node=st.sampled_from(sorted(NODES)), part=st.sampled_from([0.0, 0.5, 1.0]))
    def others_take(self, node: str, part: float) -> None:
        room = self.free()[node] + self.others[node]
        self.others[node] = float(int(room * part))

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 3.0]), demand=st.booleans())
    def time_passes(self, seconds: float, demand: bool) -> None:
        self.clock.now += seconds
        actions = self.decide(demand)
        assert not (demand and any(isinstance(action, Reserve) for action in actions))

    @invariant()
    def a_reservation_is_lent_or_there(self) -> None:
        assert {i for i, lends in self.core.lending().items() if not lends} == set(self.groups)

    def teardown(self) -> None:
        # When nobody else wants anything, those with tasks have their CPUs as far as there are some, and the others lend.
        for loan in self.loans:
            self.core.end_loan(loan)
        self.loans = set()
        self.others = dict.fromkeys(NODES, 0.0)
        for executor_id in self.nodes:
            self.core.registered(executor_id)
        for _ in range(4):
            self.clock.now += 3.0
            self.decide()
            self.ray_makes_groups()
        busy = self.busy & set(self.nodes)
        for node, size in SIZES.items():
            here = {i for i in busy if self.nodes[i] == node}
            held = {i for i in self.groups if self.nodes[i] == node}
            assert held <= here
            assert held == here or self.free()[node] < size
        # And when the session ends, none is left.
        self.core.stop()
        for executor_id in list(self.nodes):
            self.core.ended(executor_id)
        self.decide()
        assert not self.groups


AnyOrder.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
