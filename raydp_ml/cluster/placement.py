"""What one executor asks of Ray, whether any node could ever give it, and the actors that hold it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import ray
from ray.actor import ActorHandle
from ray.util.placement_group import PlacementGroup, placement_group_table
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from raydp_ml.cluster import settings as registry
from raydp_ml.cluster.host import ExecutorHost, ExecutorLaunch, ExitReport, HostInfo
from raydp_ml.cluster.nodes import alive_nodes, autoscaler
from raydp_ml.cluster.ray_connection import connection
from raydp_ml.cluster.shuffle_service import ShuffleServices
from raydp_ml.errors import RaydpMLError

_MIB = 1 << 20
# Spark's own defaults for spark.executor.memoryOverheadFactor and spark.executor.minMemoryOverhead.
_OVERHEAD_FACTOR = 0.1
_SMALLEST_OVERHEAD_MIB = 384
# What a resource profile names without asking for a resource of the cluster (org.apache.spark.resource.ResourceProfile).
_SPARK_RESOURCES = {"cores", "memory", "memoryOverhead", "pyspark.memory", "offHeap"}


@dataclass(frozen=True)
class ExecutorSize:
    """Cores and memory of the executors of one resource profile."""

    cores: int
    heap_mib: int
    other_mib: int
    custom: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Mapping[str, str], resources: Mapping[str, float]) -> ExecutorSize:
        """Size of an executor.

        Parameters
        ----------
        settings : mapping
            Spark configuration.
        resources : mapping
            What the resource profile says (``cores``, ``memory``, ``memoryOverhead``, ``offHeap``, ``pyspark.memory``; MiB), which
            wins over the configuration; whatever else it names is a resource of Ray.

        Examples
        --------
        >>> ExecutorSize.of({"spark.executor.cores": "2", "spark.executor.memory": "4096m"}, {"gpu": 1})
        ExecutorSize(cores=2, heap_mib=4096, other_mib=409, custom={'gpu': 1})
        """

        def mib(key: str, default: int = 0) -> int:
            return registry.parse_memory(settings[key], key, unit="m") // _MIB if key in settings else default

        heap = int(resources.get("memory") or mib("spark.executor.memory", 1024))
        smallest = mib("spark.executor.minMemoryOverhead", _SMALLEST_OVERHEAD_MIB)
        factor = float(settings.get("spark.executor.memoryOverheadFactor", _OVERHEAD_FACTOR))
        overhead = (
            resources.get("memoryOverhead") or mib("spark.executor.memoryOverhead") or max(smallest, int(heap * factor))
        )
        off_heap = resources.get("offHeap", 0)
        if not off_heap and settings.get("spark.memory.offHeap.enabled", "false").lower() == "true":
            off_heap = (
                registry.parse_memory(settings.get("spark.memory.offHeap.size", "1"), "spark.memory.offHeap.size")
                // _MIB
            )
        python = resources.get("pyspark.memory") or mib("spark.executor.pyspark.memory")
        cores = int(resources.get("cores") or settings.get("spark.executor.cores") or 1)
        custom = {name: int(amount) for name, amount in resources.items() if name not in _SPARK_RESOURCES}
        return cls(cores, heap, int(overhead + off_heap + python), custom)


@dataclass(frozen=True)
class ExecutorRequest:
    """What Ray is asked for, for one executor."""

    cpu: float
    memory: int
    custom: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, size: ExecutorSize, settings: Mapping[str, str], heap_only: bool) -> ExecutorRequest:
        """The request of an executor of that size.

        Parameters
        ----------
        size : ExecutorSize
            Cores and memory.
        settings : mapping
            Spark configuration; its ``actor.resource`` keys win.
        heap_only : bool
            Leave the memory beside the heap out, for bundles that the user sized by the heap.
        """
        cpu, memory, custom = registry.executor_resources(settings)
        if memory is None:
            memory = (size.heap_mib + (0 if heap_only else size.other_mib)) * _MIB
        # Ray writes GPU where Spark writes gpu; other resources have the same name in both.
        profile = {"GPU" if name == "gpu" else name: float(amount) for name, amount in size.custom.items()}
        return cls(float(size.cores) if cpu is None else cpu, memory, profile | custom)

    def bundle(self) -> dict[str, float]:
        """As a placement group's bundle, or as a node's resources are named."""
        wanted = {"CPU": self.cpu, "memory": float(self.memory), **self.custom}
        return {name: amount for name, amount in wanted.items() if amount}

    def options(self) -> dict[str, Any]:
        """As options of an actor."""
        custom = dict(self.custom)
        gpus = custom.pop("GPU", custom.pop("gpu", 0))
        return {"num_cpus": self.cpu, "memory": self.memory, "num_gpus": gpus, "resources": custom}

    def nodes_that_fit(self, nodes: Sequence[Mapping[str, float]]) -> int:
        """How many of the nodes could hold it when they are idle."""
        return sum(all(node.get(name, 0) >= amount for name, amount in self.bundle().items()) for node in nodes)


@dataclass(frozen=True)
class Bundles:
    """Bundles of a placement group that executors go into, one after the other."""

    group: PlacementGroup
    indexes: tuple[int, ...]
    ours: bool

    def __str__(self) -> str:
        told = placement_group_table(self.group)
        return f"placement group: {told['state'].lower()}, {told['strategy']}, {self.group.bundle_count} bundles"


def resource_table(request: ExecutorRequest, count: int, bundles: Bundles | None = None) -> str:
    """Wanted against what the cluster has, for people who wait.

    Parameters
    ----------
    request : ExecutorRequest
        What one executor wants.
    count : int
        How many executors are wanted.
    bundles : Bundles, optional
        The placement group that they go into.
    """
    free = ray.available_resources()
    nodes = alive_nodes()
    lines = [f"{'resource':<12}{'per executor':>14}{'x ' + str(count):>14}{'free':>14}{'largest node':>14}"]
    for name, amount in request.bundle().items():
        largest = max((node.get(name, 0) for node in nodes), default=0)
        numbers = [amount, amount * count, free.get(name, 0), largest]
        shown = [f"{n / (1 << 30):.1f} GiB" if name == "memory" else f"{n:g}" for n in numbers]
        lines.append(f"{name:<12}" + "".join(f"{text:>14}" for text in shown))
    if bundles is not None:
        lines.append(str(bundles))
    lines.append(str(autoscaler() or "no autoscaler: the cluster has the nodes that it has"))
    return "\n".join(lines)


class Host(Protocol):
    """A running host actor, as the master sees it."""

    actor: ActorHandle

    def stop(self) -> None:
        """Ask the JVM to end; its exit is reported."""

    def kill(self) -> None:
        """End the actor at once."""


class RayHost:
    """One host actor and the callbacks that tell the master of its life."""

    def __init__(
        self,
        actor: ActorHandle,
        launch: ExecutorLaunch,
        started: Callable[[HostInfo], None],
        ended: Callable[[ExitReport | BaseException], None],
        services: ShuffleServices | None,
    ) -> None:
        self.actor = actor
        self._ended = ended
        self._started = started
        self._connection = connection()
        if services is None:
            self._start(launch, None)
        else:
            threading.Thread(target=self._start_with_service, args=(launch, services), daemon=True).start()

    def _start(self, launch: ExecutorLaunch, service: ActorHandle | None) -> None:
        self.actor.start.remote(launch, service).future().add_done_callback(self._on_start)

    def _start_with_service(self, launch: ExecutorLaunch, services: ShuffleServices) -> None:
        try:
            self._start(launch, services.at(ray.get(self.actor.node_id.remote())))
        except (ray.exceptions.RayError, RaydpMLError) as error:
            self._ended(error)

    def _on_start(self, future: Any) -> None:
        error = future.exception()
        if error is not None:
            self._ended(error)
            return
        self._started(future.result())
        self.actor.wait_exit.remote().future().add_done_callback(lambda f: self._ended(f.exception() or f.result()))

    def stop(self) -> None:
        """Ask the JVM to end; its exit is reported."""
        if connection() == self._connection:
            self.actor.stop.remote()
        else:
            self._ended(RuntimeError("Ray was shut down"))

    def kill(self) -> None:
        """End the actor at once."""
        if connection() == self._connection:
            ray.kill(self.actor)


class RayHosts:
    """Makes host actors: the one place that turns an executor into options of a Ray actor."""

    def __init__(self, owner: ActorHandle, bundles: Bundles | None, services: ShuffleServices | None) -> None:
        self._owner = owner
        self._bundles = bundles
        self._services = services
        self._connection = connection()
        self._places = itertools.cycle(bundles.indexes) if bundles else None
        self._spares: list[ActorHandle] = []
        self._spares_request: ExecutorRequest | None = None

    def is_connected(self) -> bool:
        """Whether the Ray that the hosts run in is still the one of this process."""
        return connection() == self._connection

    def request(self, size: ExecutorSize, settings: Mapping[str, str]) -> ExecutorRequest:
        """What Ray is asked for, for one executor of that size."""
        return ExecutorRequest.of(size, settings, heap_only=self._bundles is not None and not self._bundles.ours)

    def start(
        self,
        launch: ExecutorLaunch,
        request: ExecutorRequest,
        started: Callable[[HostInfo], None],
        ended: Callable[[ExitReport | BaseException], None],
    ) -> Host:
        """Ask Ray for a host; it is placed when there is room."""
        actor = self._spares.pop(0) if self._spares and request == self._spares_request else self._make(request)
        return RayHost(actor, launch, started, ended, self._services)

    def warm(self, request: ExecutorRequest, count: int) -> None:
        """Make actors for executors that will be asked for in a moment, so that they start beside the driver JVM."""
        self._spares_request = request
        self._spares = [self._make(request) for _ in range(count)]

    def drop_spares(self) -> None:
        """End the warm actors that nobody asked for."""
        spares, self._spares = self._spares, []
        for actor in spares:
            ray.kill(actor)

    def close(self) -> None:
        """End what is beside the hosts, when they have ended."""
        self.drop_spares()
        if self._services is not None:
            self._services.stop()

    def _make(self, request: ExecutorRequest) -> ActorHandle:
        options = request.options()
        if self._bundles is not None and self._places is not None:
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(self._bundles.group, next(self._places))
        # Threads: one waits for the exit, the others serve files.
        return ray.remote(ExecutorHost).options(max_concurrency=8, **options).remote(self._owner)
