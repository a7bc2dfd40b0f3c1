"""The actors that host executors, and the CPU reservations beside them, as requests to Ray."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import ray
from ray.actor import ActorHandle
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from raydp_ml.cluster.groups import Groups
from raydp_ml.cluster.host import ExecutorHost, ExecutorLaunch, ExitReport, HostInfo
from raydp_ml.cluster.nodes import CpuState, alive_node_ids, cpu_state, node_label
from raydp_ml.cluster.placement import Bundles, ExecutorRequest, ExecutorSize
from raydp_ml.cluster.places import Places
from raydp_ml.cluster.ray_connection import connection
from raydp_ml.cluster.reservations import Reserve
from raydp_ml.cluster.shuffle_service import ShuffleServices
from raydp_ml.errors import RaydpMLError

# How long places stand back before it is seen whether they still have to.
_STAND_BACK_SECONDS = 0.02


class Host(Protocol):
    """A host actor, or the request for one, as the master sees it."""

    @property
    def actor(self) -> ActorHandle:
        """The actor; only of a host that has a place."""

    def start(self, launch: ExecutorLaunch) -> None:
        """Start the JVM, as soon as there is a place."""

    def stop(self) -> None:
        """Ask the JVM to end; its exit is reported."""

    def kill(self) -> None:
        """End the actor, or withdraw the request, at once."""


class RayHost:
    """One host actor and the callbacks that tell the master of its life."""

    def __init__(
        self,
        started: Callable[[HostInfo], None],
        ended: Callable[[ExitReport | BaseException], None],
        services: ShuffleServices | None,
    ) -> None:
        self._ended = ended
        self._started = started
        self._services = services
        self._connection = connection()
        self._actor: ActorHandle | None = None
        self._launch: ExecutorLaunch | None = None
        self._withdraw: Callable[[], None] | None = None

    @property
    def actor(self) -> ActorHandle:
        """The actor; only of a host that has a place."""
        if self._actor is None:
            raise RaydpMLError("the executor has no place yet")
        return self._actor

    def wait_for_place(self, withdraw: Callable[[], None]) -> None:
        """The actor is made later; ``withdraw`` ends the request for its place."""
        self._withdraw = withdraw

    def has_place(self, actor: ActorHandle) -> None:
        """The actor was made."""
        self._actor, self._withdraw = actor, None
        if self._launch is not None:
            self._start_on(actor, self._launch)

    def start(self, launch: ExecutorLaunch) -> None:
        """Start the JVM, as soon as there is a place."""
        self._launch = launch
        if self._actor is not None:
            self._start_on(self._actor, launch)

    def _start_on(self, actor: ActorHandle, launch: ExecutorLaunch) -> None:
        if self._services is None:
            self._start_with(actor, launch, None)
        else:
            arguments = (actor, launch, self._services)
            threading.Thread(target=self._start_after_service, args=arguments, daemon=True).start()

    def _start_with(self, actor: ActorHandle, launch: ExecutorLaunch, service: ActorHandle | None) -> None:
        # Both are asked for here. Callbacks run in a thread that reads Ray's answers, and in a Ray Client a callback that asks
        # something itself would wait there for ever.
        start, end = actor.start.remote(launch, service), actor.wait_exit.remote()
        start.future().add_done_callback(self._on_start)
        end.future().add_done_callback(lambda future: self._ended(future.exception() or future.result()))

    def _start_after_service(self, actor: ActorHandle, launch: ExecutorLaunch, services: ShuffleServices) -> None:
        try:
            self._start_with(actor, launch, services.at(ray.get(actor.node_id.remote())))
        except (ray.exceptions.RayError, RaydpMLError) as error:
            self._ended(error)

    def _on_start(self, future: Any) -> None:
        error = future.exception()
        if error is not None:
            self._ended(error)
        else:
            self._started(future.result())

    def stop(self) -> None:
        """Ask the JVM to end; its exit is reported."""
        if connection() == self._connection:
            self.actor.stop.remote()
        else:
            self._ended(RuntimeError("Ray was shut down"))

    def kill(self) -> None:
        """End the actor, or withdraw the request, at once."""
        if self._withdraw is not None:
            self._withdraw()
        elif connection() == self._connection:
            ray.kill(self.actor)


class RayHosts:
    """Makes host actors and CPU reservations: the one place that turns an executor into requests to Ray.

    Parameters
    ----------
    owner : ActorHandle
        Owner of converted blocks.
    bundles : Bundles or None
        The group whose bundles the executors go into.
    services : ShuffleServices or None
        Shuffle services of the nodes.
    lends : bool
        Whether executors lend their CPUs. Then a placement group with all that an executor needs is made first, and the actor
        that starts on its node holds everything but the CPUs. Otherwise the actor holds all.
    app : str
        What people call the application; the actors' names begin with it.
    nodes : sequence of str
        Nodes for the executors, one after the other; empty: any.
    """

    def __init__(
        self,
        owner: ActorHandle,
        bundles: Bundles | None,
        services: ShuffleServices | None,
        lends: bool,
        app: str,
        nodes: Sequence[str] = (),
    ) -> None:
        self._owner = owner
        self._bundles = bundles
        self._services = services
        self._indexes = itertools.cycle(bundles.indexes) if bundles else None
        self._lends = lends
        self._app = app
        self._connection = connection()
        self._nodes = itertools.cycle(nodes) if nodes else None
        self._reservations: dict[str, PlacementGroup] = {}
        self._groups = Groups()
        self._places = Places(self._groups)

    def is_connected(self) -> bool:
        """Whether the Ray that the hosts run in is still the one of this process."""
        return connection() == self._connection

    def request(self, size: ExecutorSize, settings: Mapping[str, str]) -> ExecutorRequest:
        """What Ray is asked for, for one executor of that size."""
        return ExecutorRequest.of(size, settings, heap_only=self._bundles is not None and not self._bundles.ours)

    def make(
        self,
        executor_id: str,
        request: ExecutorRequest,
        placed: Callable[[str], None],
        started: Callable[[HostInfo], None],
        ended: Callable[[ExitReport | BaseException], None],
    ) -> Host:
        """Ask Ray for a host; it is placed when there is room.

        Parameters
        ----------
        executor_id : str
            Spark's id of the executor.
        request : ExecutorRequest
            What the executor needs.
        placed : callable
            Called with the node of an executor that can lend its CPUs; they are free from then on.
        started, ended : callable
            Called when the JVM runs, and when it or the actor has ended.
        """
        host = RayHost(started, ended, self._services)
        if not self._lends or not request.cpu:
            host.has_place(self._make_actor(executor_id, request.options()))
            return host

        def on_place(node_id: str) -> None:
            self._places.end(place)
            host.has_place(self._make_actor(executor_id, self._options_on(node_id, request)))
            placed(node_id)

        place = self._places.ask(request.bundle(), self._next_node(), on_place)
        host.wait_for_place(withdraw=lambda: self._places.end(place))
        return host

    def look(self) -> None:
        """See which places and reservations are there."""
        # When this begins, those that the last look has placed have asked for their CPUs, and get or do not get them before others.
        if self._places.stand_back() and not any(self._groups.awaits(group) for group in self._reservations.values()):
            self._places.ask_again()
        self._groups.look()

    def wait(self) -> float | None:
        """Seconds until the next look; None when nothing is awaited."""
        return _STAND_BACK_SECONDS if self._places.stand_back() else self._groups.wait()

    def waiting_since(self) -> float | None:
        """Since when the youngest host that waits for a place does; None when none waits."""
        return self._places.waiting_since()

    def _next_node(self) -> str | None:
        node_id = next(self._nodes) if self._nodes is not None else None
        return node_id if node_id in alive_node_ids() else None

    def _options_on(self, node_id: str, request: ExecutorRequest) -> dict[str, Any]:
        options = replace(request, cpu=0.0).options()
        if not any(replace(request, cpu=0.0).bundle()):
            # Ray lets a random node place an actor that needs nothing, and that node may not know the wanted one yet (Ray 2.60).
            options["resources"] = {node_label(node_id): 0.0001}
        return options | {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False)}

    def _make_actor(self, executor_id: str, options: dict[str, Any]) -> ActorHandle:
        # Ray's dashboard and `ray list actors` show it.
        options["name"] = f"{self._app} executor {executor_id}"
        if self._bundles is not None and self._indexes is not None:
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(self._bundles.group, next(self._indexes))
        # Threads: one waits for the exit, the others serve files.
        return ray.remote(ExecutorHost).options(max_concurrency=8, **options).remote(self._owner)

    def reserve(self, reserve: Reserve, ready: Callable[[], None]) -> None:
        """Reserve the CPUs of an executor."""
        group = self._groups.ask({"CPU": reserve.cpus}, reserve.node_id, lambda _: ready())
        self._reservations[reserve.executor_id] = group

    def release(self, executor_id: str) -> None:
        """Let the CPUs of an executor go."""
        self._groups.drop(self._reservations.pop(executor_id))

    def cpu_state(self) -> CpuState:
        """CPUs of the cluster; executors of ours that wait for a place do not count as waiting."""
        return cpu_state(self._groups.awaited())

    def close(self) -> None:
        """End what is beside the hosts, when they have ended."""
        self._groups.close()
        if self._services is not None:
            self._services.stop()
