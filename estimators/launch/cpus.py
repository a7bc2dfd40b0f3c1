"""CPUs of a node, held in Ray's books while a process that Ray does not know of computes on them."""

from __future__ import annotations

from typing import Any

from raydp_ml.cluster.resources import free_resources, wait_for_room

__all__ = ["CpuReservation", "node_for"]

_ADVICE = "Spark's executors hold the CPUs that they were given: start fewer of them, or train with num_workers=0 in this process."
# A placement group of one bundle on a node with room is there within milliseconds.
_READY_SECONDS = 1.0


def node_for(cpus: float) -> str:
    """The node of a worker: this process's own where it has so many CPUs, otherwise the one with the most.

    Parameters
    ----------
    cpus : float
        How many CPUs the worker takes.
    """
    import ray

    here = ray.get_runtime_context().get_node_id()
    nodes = {node["NodeID"]: node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]}
    return here if nodes.get(here, 0.0) >= cpus else max(nodes, key=lambda node: nodes[node])


class CpuReservation:
    """CPUs of one node, held while the context lasts; ``cpus`` says how many they are.

    Parameters
    ----------
    node : str
        Id of the node.
    least : float
        How many are needed.
    all_free : bool
        Whether to take all that are free.
    """

    def __init__(self, node: str, least: float, all_free: bool) -> None:
        self._node, self._least, self._all_free = node, least, all_free
        self._group: Any = None
        self.cpus = least

    def __enter__(self) -> CpuReservation:
        from ray.util.placement_group import placement_group, remove_placement_group

        while True:
            wait_for_room({"CPU": self._least}, "training with 1 worker", _ADVICE, node=self._node)
            free = float(int(free_resources(self._node).get("CPU", 0.0)))
            self.cpus = max(self._least, free) if self._all_free else self._least
            group = placement_group([{"CPU": self.cpus}], bundle_label_selector=[{"ray.io/node-id": self._node}])
            try:
                ready = group.wait(_READY_SECONDS)
            except BaseException:
                remove_placement_group(group)
                raise
            if ready:
                self._group = group
                return self
            remove_placement_group(group)  # somebody else was quicker: a group that waits is demand for new nodes

    def __exit__(self, *_: object) -> None:
        from ray.util.placement_group import remove_placement_group

        remove_placement_group(self._group)
