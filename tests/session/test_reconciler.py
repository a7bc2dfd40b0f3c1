"""The scheduler core without Spark and Ray: sequences of events, with a clock that the test turns."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from raydp_ml.cluster.reconciler import Fail, Reconciler, Start, State, Stop


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def started(core: Reconciler) -> list[str]:
    return [action.executor_id for action in core.decide() if isinstance(action, Start)]


def test_starts_what_is_missing_once() -> None:
    core = Reconciler(Clock())
    core.want({0: 2})
    assert started(core) == ["0", "1"]
    assert core.decide() == []


def test_a_running_executor_that_ends_is_replaced_at_once() -> None:
    core = Reconciler(Clock())
    core.want({0: 1})
    started(core)
    core.registered("0")
    assert core.exited("0", "killed") is True
    assert started(core) == ["1"]


def test_profiles_are_counted_apart() -> None:
    core = Reconciler(Clock())
    core.want({0: 1, 7: 2})
    assert core.decide() == [Start("0", 0), Start("1", 7), Start("2", 7)]
    core.want({7: 3})
    assert core.decide() == [Start("3", 7)]


def test_lowering_the_total_ends_only_executors_that_hold_nothing() -> None:
    core = Reconciler(Clock())
    core.want({0: 3})
    started(core)
    core.registered("0")
    core.want({0: 1})
    assert core.decide() == [Stop("2"), Stop("1")]
    core.want({0: 0})
    assert core.decide() == []
    assert core.count(State.RUNNING) == 1


def test_spark_kills_by_id_and_the_exit_is_expected() -> None:
    core = Reconciler(Clock())
    core.want({0: 2})
    started(core)
    core.registered("0")
    core.want({0: 1})
    assert core.kill(["0", "0", "unknown"]) == [Stop("0")]
    assert core.exited("0", "stopped") is False
    assert core.exited("0", "stopped") is False


def test_deaths_at_start_back_off_and_then_fail_with_the_last_reason() -> None:
    clock = Clock()
    core = Reconciler(clock, max_start_failures=3, first_delay=1.0)
    core.want({0: 1})
    for attempt, delay in enumerate([1.0, 2.0]):
        assert started(core) == [str(attempt)]
        core.exited(str(attempt), f"reason {attempt}")
        assert core.decide() == []
        assert core.wait() == delay
        clock.now += delay
    assert started(core) == ["2"]
    core.exited("2", "bad option")
    (failure,) = core.decide()
    assert isinstance(failure, Fail)
    assert "3 executors in a row" in failure.reason and "bad option" in failure.reason
    assert core.decide() == [] and core.wait() is None


def test_one_that_registers_clears_the_failures() -> None:
    core = Reconciler(Clock(), max_start_failures=2, first_delay=0.0)
    core.want({0: 2})
    started(core)
    core.exited("0", "once")
    core.registered("1")
    assert started(core) == ["2"]
    core.exited("2", "twice, but not in a row")
    assert started(core) == ["3"]


def test_one_that_leaves_is_replaced_before_it_has_ended() -> None:
    core = Reconciler(Clock())
    core.want({0: 2})
    started(core)
    core.registered("0")
    assert core.leave(["0", "1", "unknown"]) == ["0"]  # "1" does nothing yet: its node's end will end it
    assert core.leave(["0"]) == []
    assert started(core) == ["2"]
    assert core.exited("0", "decommissioned") is False
    assert core.decide() == []


def test_after_stop_nothing_starts() -> None:
    core = Reconciler(Clock())
    core.want({0: 2})
    started(core)
    assert core.stop() == [Stop("0"), Stop("1")]
    core.want({0: 5})
    core.exited("0", "stopped")
    assert core.decide() == []


class AnyOrder(RuleBasedStateMachine):
    """Whatever the order of events: never more than wanted, and it converges."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.core = Reconciler(self.clock, max_start_failures=10**6, first_delay=0.5, longest_delay=4.0)
        self.wanted = 0
        self.alive: set[str] = set()
        self.stopping: set[str] = set()
        self.registered_ids: set[str] = set()
        self.leaving: set[str] = set()

    def act(self, actions: list) -> None:
        for action in actions:
            if isinstance(action, Start):
                assert action.executor_id not in self.alive
                self.alive.add(action.executor_id)
            else:
                self.stopping.add(action.executor_id)

    @rule(total=st.integers(0, 6))
    def want(self, total: int) -> None:
        self.wanted = total
        self.core.want({0: total})
        self.act(self.core.decide())

    @rule(pick=st.integers(0, 10**6))
    def register(self, pick: int) -> None:
        waiting = sorted(self.alive - self.registered_ids - self.stopping)
        if waiting:
            executor_id = waiting[pick % len(waiting)]
            self.core.registered(executor_id)
            self.registered_ids.add(executor_id)
            self.act(self.core.decide())

    @rule(pick=st.integers(0, 10**6), repeat=st.booleans())
    def exit(self, pick: int, repeat: bool) -> None:
        if self.alive:
            executor_id = sorted(self.alive)[pick % len(self.alive)]
            unexpected = self.core.exited(executor_id, "x")
            assert unexpected == (executor_id not in self.stopping | self.leaving)
            if repeat:
                assert self.core.exited(executor_id, "again") is False
            self.alive.discard(executor_id)
            self.stopping.discard(executor_id)
            self.leaving.discard(executor_id)
            self.act(self.core.decide())

    @rule(pick=st.integers(0, 10**6))
    def leave(self, pick: int) -> None:
        if self.alive:
            told = self.core.leave([sorted(self.alive)[pick % len(self.alive)]])
            assert set(told) <= self.registered_ids - self.stopping - self.leaving
            self.leaving |= set(told)
            self.act(self.core.decide())

    @rule(pick=st.integers(0, 10**6))
    def kill(self, pick: int) -> None:
        if self.alive:
            self.act(self.core.kill([sorted(self.alive)[pick % len(self.alive)]]))
            self.act(self.core.decide())

    @rule(seconds=st.floats(0, 5))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds
        self.act(self.core.decide())

    @invariant()
    def not_more_than_wanted_unless_spark_has_yet_to_kill(self) -> None:
        live = self.alive - self.stopping - self.leaving
        assert len(live - self.registered_ids) <= max(0, self.wanted - len(live & self.registered_ids))

    def teardown(self) -> None:
        for _ in range(10):
            self.clock.now += 10.0
            self.act(self.core.decide())
            for executor_id in sorted(self.stopping):
                self.core.exited(executor_id, "stopped")
                self.alive.discard(executor_id)
            self.stopping.clear()
        assert len(self.alive - self.leaving) >= self.wanted


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
