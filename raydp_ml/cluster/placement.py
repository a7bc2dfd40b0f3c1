"""What one executor asks of Ray, and whether any node could ever give it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group_table

from raydp_ml.cluster import settings as registry
from raydp_ml.cluster.nodes import alive_nodes, autoscaler

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

    def nodes(self) -> list[str]:
        """The nodes of the bundles, when Ray has placed them."""
        placed = placement_group_table(self.group)["bundles_to_node_id"]
        return [placed[index] for index in self.indexes]

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
