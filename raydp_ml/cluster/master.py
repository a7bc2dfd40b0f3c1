"""The master in the driver's process: hears from Spark what it wants, and keeps host actors and CPU reservations that match.

It only wires: :class:`~raydp_ml.cluster.reconciler.Reconciler` decides, :class:`~raydp_ml.cluster.placement.RayHosts` makes actors.
The other end of the control protocol is ``jvm/.../MasterConnection.scala`` and ``RaySchedulerBackend.scala``.
"""

from __future__ import annotations

import hmac
import itertools
import json
import logging
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray.actor import ActorHandle

from raydp_ml.cluster import settings as registry
from raydp_ml.cluster.console import executor_log4j
from raydp_ml.cluster.host import ExecutorLaunch, ExitReport, HostInfo
from raydp_ml.cluster.hosts import Host, RayHosts
from raydp_ml.cluster.node_files import DriverFiles
from raydp_ml.cluster.nodes import autoscaler, draining_nodes
from raydp_ml.cluster.placement import ExecutorRequest, ExecutorSize
from raydp_ml.cluster.reconciler import Action, Reconciler, Start, State, Stop
from raydp_ml.cluster.reservations import Release, Reserve
from raydp_ml.errors import RaydpMLError

logger = logging.getLogger(__name__)

_STOP_SECONDS = 8.0
# How often the master asks Ray which nodes are to go.
_DRAIN_POLL_SECONDS = 2.0
# How often it looks at the CPUs of the cluster while an executor wants its own back.
_CPU_POLL_SECONDS = 0.5


@dataclass
class _Hosted:
    profile_id: int
    host: Host
    info: HostInfo | None = None


@dataclass(frozen=True)
class Snapshot:
    """Executors at one moment."""

    wanted: int
    pending: int
    placed: int
    running: int
    request: ExecutorRequest | None


class Master:
    """Serves one Spark application.

    Parameters
    ----------
    app_id : str
        Name of the application.
    hosts : RayHosts
        Makes host actors.
    files : DriverFiles
        Jar and class archive, for nodes that lack them.
    secret : str
        Spark's authentication secret.
    release : callable
        Called with the name of a lease that Spark no longer needs.
    lost : callable
        Called once when the driver JVM is gone without having said stop.
    max_start_failures : int, default 4
        After so many executors in a row that ended before they registered, the application fails.
    lend_after : float, default 1.0
        Seconds without a task after which an executor lends its CPUs.
    timeout : float, default 300.0
        Seconds that an autoscaling cluster has for adding the nodes that executors wait for.
    ray_lost : callable
        Called once when Ray was shut down, and the hosts with it; must not wait for the master.
    """

    def __init__(
        self,
        app_id: str,
        hosts: RayHosts,
        files: DriverFiles,
        secret: str,
        release: Callable[[str], None],
        lost: Callable[[], None],
        ray_lost: Callable[[], None],
        max_start_failures: int = 4,
        lend_after: float = 1.0,
        timeout: float = 300.0,
    ) -> None:
        self.app_id = app_id
        self.token = secrets.token_hex(32)
        self._hosts = hosts
        self._files = files
        self._secret = secret
        self._release = release
        self._lost = lost
        self._core = Reconciler(time.monotonic, max_start_failures, lend_after=lend_after)
        self._early: ExecutorRequest | None = None
        self._timeout = timeout
        self._begun = False
        self._loan_numbers = itertools.count()
        self._saw_cpus = float("-inf")
        self._ray_lost = ray_lost
        self._hosted: dict[str, _Hosted] = {}
        self._hello: dict[str, Any] = {}
        self._profiles: dict[int, dict[str, float]] = {0: {}}
        self._events: queue.Queue[Callable[[], None]] = queue.Queue()
        self._changed = threading.Condition()
        self._running = True
        self._connection: socket.socket | None = None
        self.failure: str | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="raydp-ml-master-accept", daemon=True).start()
        self._thread = threading.Thread(target=self._loop, name="raydp-ml-master", daemon=True)
        self._thread.start()

    # The control connection: threads that only read, and post what they read as events.

    def _accept(self) -> None:
        """Wait for the one connection with the right token; afterwards nobody can connect any more."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            stream = connection.makefile("r", encoding="utf-8")
            connection.settimeout(10.0)
            hello = self._read_hello(stream)
            if hello is None:
                connection.close()
                continue
            connection.settimeout(None)
            self._connection = connection
            self._listener.close()
            self._post(partial(self._on_hello, hello))
            self._listen(stream)
            return

    def _read_hello(self, stream: Any) -> dict[str, Any] | None:
        try:
            hello = json.loads(stream.readline())
            token = str(hello.pop("token", "")) if isinstance(hello, dict) and hello.get("op") == "hello" else ""
        except (OSError, ValueError):
            return None
        return hello if hmac.compare_digest(token.encode(), self.token.encode()) else None

    def _listen(self, stream: Any) -> None:
        stopped = False
        try:
            for line in stream:
                message = json.loads(line)
                stopped = stopped or message["op"] == "stop"
                self._post(partial(self._on_message, message))
        except OSError as error:
            logger.debug("control connection ended: %s", error)
        # The end of the connection means stop: there is no Spark left to start executors for.
        self._post(self._stop_all)
        if not stopped:
            self._lost()

    def _send(self, **message: Any) -> None:
        if self._connection is None:
            return
        try:
            self._connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            logger.debug("the driver JVM is gone: %s", error)

    # One thread handles all events, so that nothing below needs a lock.

    def _post(self, event: Callable[[], None]) -> None:
        self._events.put(event)

    def _loop(self) -> None:
        looked = time.monotonic()
        while self._running or self._hosted:
            try:
                event = self._events.get(timeout=self._wait())
            except queue.Empty:
                event = None
            try:
                if self._running and not self._hosts.is_connected():
                    self._fail("Ray was shut down")
                    self._stop_all()
                    self._ray_lost()
                if event is not None:
                    event()
                if ray.is_initialized():
                    self._hosts.look()
                    self._look_at_cpus()
                if self._running and time.monotonic() - looked >= _DRAIN_POLL_SECONDS:
                    self._leave_draining_nodes()
                    self._hold_while_cluster_grows()
                    looked = time.monotonic()
                for action in self._core.decide():
                    self._apply(action)
            except Exception as error:
                logger.exception("the master cannot go on")
                self._fail(f"the master cannot go on: {error}")
            with self._changed:
                self._changed.notify_all()
        if self._hosts.is_connected():
            self._hosts.close()

    def _wait(self) -> float:
        """Seconds until there is something to do without an event."""
        look = _CPU_POLL_SECONDS if self._core.cpus.wants_to_see() else None
        waits = [self._core.wait(), self._hosts.wait(), look]
        return min((seconds for seconds in waits if seconds is not None), default=_DRAIN_POLL_SECONDS)

    def _look_at_cpus(self) -> None:
        """Show the reconciler the cluster from time to time when a decision depends on it."""
        if self._core.cpus.wants_to_see() and time.monotonic() - self._saw_cpus >= _CPU_POLL_SECONDS:
            self._see_cpus()

    def _see_cpus(self) -> None:
        if not ray.is_initialized():
            return
        self._saw_cpus = time.monotonic()
        try:
            state = self._hosts.cpu_state()
        except ray.exceptions.RayError as error:
            # Without an answer executors take nothing back, which stops no task.
            logger.debug("Ray does not say which CPUs are free: %s", error)
            return
        self._core.cpus.see(state.free, demand=bool(state.awaited))

    def _on_hello(self, hello: dict[str, Any]) -> None:
        self._hello = hello
        if self._early is not None and self._early != self._hosts.request(self.size(0), hello["settings"]):
            # Spark's own configuration files say otherwise; others start in their place.
            for action in self._core.kill(list(self._hosted)):
                self._apply(action)
        for executor_id, hosted in self._hosted.items():
            hosted.host.start(self._launch(executor_id, hosted.profile_id))

    def _on_message(self, message: dict[str, Any]) -> None:
        op = message["op"]
        if op == "total":
            for profile in message["profiles"]:
                self._profiles[profile["id"]] = profile["resources"]
            self._core.want({profile["id"]: profile["total"] for profile in message["profiles"]})
        elif op == "kill":
            for action in self._core.kill(message["ids"]):
                self._apply(action)
        elif op == "registered":
            self._core.registered(message["id"])
        elif op == "tasks":
            self._core.cpus.tasks(message["busy"])
        elif op == "release":
            self._release(message["lease"])
        elif op == "stop":
            self._stop_all()
        else:
            logger.warning("the driver JVM sent an unknown message: %s", op)

    def _apply(self, action: Action) -> None:
        if isinstance(action, Start):
            self._start(action)
        elif isinstance(action, Stop):
            hosted = self._hosted[action.executor_id]
            if hosted.info is None:
                # Not placed yet: there is no JVM to end, and Ray would keep the request.
                hosted.host.kill()
                self._on_end(action.executor_id, ExitReport(0, ""))
            else:
                hosted.host.stop()
        elif isinstance(action, Reserve):
            self._hosts.reserve(action, partial(self._core.cpus.reserved, action.executor_id))
        elif isinstance(action, Release):
            self._hosts.release(action.executor_id)
        else:
            self._fail(action.reason)

    def _leave_draining_nodes(self) -> None:
        """Let the executors of nodes that Ray drains finish and move their blocks, as Spark on Kubernetes does."""
        if not ray.is_initialized() or not self._hosted:
            return
        nodes = draining_nodes()
        there = [i for i, hosted in self._hosted.items() if hosted.info is not None and hosted.info.node_id in nodes]
        leaving = self._core.leave(there)
        if leaving:
            self._send(op="decommission", ids=leaving, reason="its Ray node drains")

    def _hold_while_cluster_grows(self) -> None:
        """Idle executors lend, except where the next executors would take the CPUs instead of nodes that are on their way."""
        since = self._hosts.waiting_since()
        young = since is not None and time.monotonic() - since < self._timeout
        grows = young and ray.is_initialized() and autoscaler() is not None
        self._core.cpus.lend_when_idle(self._begun and not grows)

    def size(self, profile_id: int) -> ExecutorSize:
        """Size of the executors of a resource profile."""
        return ExecutorSize.of(self._hello["settings"], self._profiles[profile_id])

    def _start(self, action: Start) -> None:
        executor_id = action.executor_id
        if self._hello:
            request = self._hosts.request(self.size(action.profile_id), self._hello["settings"])
        elif self._early is not None:
            request = self._early
        else:
            raise RaydpMLError("an executor is wanted before Spark has said what it needs")
        host = self._hosts.make(
            executor_id,
            request,
            placed=lambda node_id: self._core.cpus.place(executor_id, node_id, request.cpu),
            started=lambda info: self._post(lambda: self._on_start(executor_id, info)),
            ended=lambda end: self._post(lambda: self._on_end(executor_id, end)),
        )
        self._hosted[executor_id] = _Hosted(action.profile_id, host)
        if self._hello:
            host.start(self._launch(executor_id, action.profile_id))

    def _launch(self, executor_id: str, profile_id: int) -> ExecutorLaunch:
        size = self.size(profile_id)
        return ExecutorLaunch(
            app_id=self.app_id,
            executor_id=executor_id,
            profile_id=profile_id,
            cores=size.cores,
            heap_mib=size.heap_mib,
            driver_url=self._hello["driver_url"],
            java_options=tuple(self._hello["java_options"]),
            environment=self._hello["environment"],
            settings=self._hello["settings"],
            resources=dict(size.custom),
            files=self._files,
            secret=self._secret,
            log4j=executor_log4j(self._hello["settings"]),
            log_to_driver=registry.read(self._hello["settings"], "spark.ray.executor.logToDriver"),
        )

    def _on_start(self, executor_id: str, info: HostInfo) -> None:
        if executor_id in self._hosted:
            self._hosted[executor_id].info = info

    def _on_end(self, executor_id: str, end: ExitReport | BaseException) -> None:
        hosted = self._hosted.pop(executor_id, None)
        if hosted is None:
            return
        if isinstance(end, ExitReport):
            code, by_app = end.code, True
            why = f"ended by signal {-code}" if code < 0 else f"exited with code {code}"
            reason = f"the executor JVM {why}"
            detail = f"{reason}; the last lines of its log:\n{end.log_tail}"
            hosted.host.kill()
        else:
            code, by_app = -1, False
            reason = f"its host actor ended: {end}"
            detail = reason
        unexpected = self._core.exited(executor_id, detail)
        self._send(op="exited", id=executor_id, code=code, by_app=unexpected and by_app, reason=reason)

    def _fail(self, reason: str) -> None:
        self.failure = reason
        self._send(op="fail", reason=reason)

    def _stop_all(self) -> None:
        for action in self._core.stop():
            self._apply(action)
        self._running = False

    # What other threads may ask.

    def expect(self, request: ExecutorRequest, count: int) -> None:
        """Make hosts for executors that Spark will ask for in a moment, so that they start beside the driver JVM."""

        def want() -> None:
            self._early = request
            self._core.want({0: count})

        self._post(want)

    def begin_lending(self) -> None:
        """The session has begun: executors without tasks lend their CPUs from now on."""

        def begin() -> None:
            self._begun = True
            self._hold_while_cluster_grows()

        self._post(begin)

    def ask(self, cpus: float, each: float) -> int:
        """Have executors lend CPUs at once, pieces of ``each`` on one node; gives the number of the loan."""
        number = next(self._loan_numbers)

        def ask() -> None:
            self._core.cpus.ask(number, cpus, each)
            self._see_cpus()

        self._post(ask)
        return number

    def ask_again(self, loan: int) -> None:
        """The work of a loan waits still."""

        def ask() -> None:
            self._core.cpus.ask_again(loan)
            if self._core.cpus.wants_to_see():
                self._see_cpus()

        self._post(ask)

    def end_loan(self, loan: int) -> None:
        """The work of a loan has ended."""
        self._post(partial(self._core.cpus.end_loan, loan))

    def lending(self) -> dict[str, bool]:
        """Whether each executor lends its CPUs; executors that cannot lend are left out."""
        return self._core.cpus.lending()

    def snapshot(self) -> Snapshot:
        """Executors now."""
        request = self._hosts.request(self.size(0), self._hello["settings"]) if self._hello else None
        placed = sum(1 for hosted in list(self._hosted.values()) if hosted.info is not None)
        return Snapshot(
            self._core.wanted,
            self._core.count(State.STARTING),
            placed,
            self._core.count(State.RUNNING),
            request,
        )

    def wait_for_change(self, seen: Snapshot, seconds: float) -> None:
        """Wait until the snapshot is another one, at most so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.snapshot() != seen or self.failure is not None, seconds)

    def wait_for_hello(self, ended: Callable[[], bool]) -> None:
        """Wait until Spark has made its SparkContext, or there will be none."""
        with self._changed:
            while not self._changed.wait_for(lambda: bool(self._hello) or ended(), 0.5):
                continue

    def has_ended(self) -> bool:
        """Whether Spark has stopped, or was told to."""
        return not self._running

    def give_up(self, reason: str) -> None:
        """End the application, because somebody who watches it says so."""
        self._post(partial(self._fail, reason))

    def locate(self, executor_id: str) -> tuple[str | None, ActorHandle | None]:
        """Node and host actor of an executor; None for one that is gone."""
        hosted = self._hosted.get(executor_id)
        if hosted is None or hosted.info is None:
            return None, None
        return hosted.info.node_id, hosted.host.actor

    def executors(self) -> dict[str, HostInfo]:
        """The executors that have a JVM, by id."""
        return {i: hosted.info for i, hosted in list(self._hosted.items()) if hosted.info is not None}

    def host_actors(self) -> list[ActorHandle]:
        """The host actors of the executors that have a JVM."""
        return [hosted.host.actor for hosted in list(self._hosted.values()) if hosted.info is not None]

    def hosts_by_node(self) -> list[list[ActorHandle]]:
        """The host actors of the executors that have a JVM, node by node, the oldest first."""
        nodes: dict[str, list[ActorHandle]] = {}
        for hosted in list(self._hosted.values()):
            if hosted.info is not None:
                nodes.setdefault(hosted.info.node_id, []).append(hosted.host.actor)
        return list(nodes.values())

    def stop(self) -> None:
        """End all executors, and return when they are gone."""
        self._post(self._stop_all)
        with self._changed:
            gone = self._changed.wait_for(lambda: not self._hosted, _STOP_SECONDS)
        if not gone:
            for hosted in list(self._hosted.values()):
                hosted.host.kill()
        self._thread.join(_STOP_SECONDS)
        self._listener.close()
        if self._connection is not None:
            self._connection.close()
