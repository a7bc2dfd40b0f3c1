"""CPUs of a node, held in Ray's books while a process that Ray does not know of computes on them."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

from raydp_ml.cluster.resources import cores, free_resources, room_for

__all__ = ["ADVICE", "CpuReservation", "node_for", "threads_for"]

ADVICE = (
    "Other work of the cluster holds them: wait for it, train with fewer workers, or with num_workers=0 in this process. Executors "
    "of a Spark session that another process began, or that spark.ray.executor.lendCpus=false keeps, lend none."
)
# A placement group of one bundle on a node with room is there within milliseconds.
_READY_SECONDS = 1.0
# Executors that are asked for CPUs have lent them well before that.
_LENT_SECONDS = 0.5


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


def threads_for(cpus: float) -> int:
    """How many threads a worker uses: as many as it has CPUs in Ray's books, and no more than there are cores for this process.

    Ray can be told of more CPUs than there are, and threads that wait for each other on the same core are slower than one.

    Parameters
    ----------
    cpus : float
        CPUs of the worker.

    Examples
    --------
    >>> threads_for(0.5)
    1
    """
    return max(1, min(int(cpus), cores()))


class CpuReservation:
    """CPUs of one node, held while the context lasts; ``cpus`` says how many they are.

    Parameters
    ----------
    node : str
        Id of the node.
    least : float
        How many are needed.
    all_free : bool
        Whether to take all that the node has, once executors have lent theirs, except what others hold.
    """

    def __init__(self, node: str, least: float, all_free: bool) -> None:
        self._node, self._least, self._all_free = node, least, all_free
        self._open = ExitStack()
        self.cpus = least

    def __enter__(self) -> CpuReservation:
        try:
            self._wait()
            while not self._take():
                self._wait()  # somebody else was quicker
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _wait(self) -> None:
        also = self._total() - self._least if self._all_free else 0.0
        room = room_for({"CPU": self._least}, "training worker(s)", ADVICE, node=self._node, also=max(also, 0.0))
        self._open.enter_context(room)

    def _take(self) -> bool:
        from ray.util.placement_group import placement_group, remove_placement_group

        if self._all_free:
            deadline, pause, total = time.monotonic() + _LENT_SECONDS, threading.Event(), self._total()
            while (free := self._free()) < total and time.monotonic() < deadline:
                pause.wait(0.02)
            self.cpus = max(self._least, float(int(free)))
        group = placement_group([{"CPU": self.cpus}], bundle_label_selector=[{"ray.io/node-id": self._node}])
        try:
            taken = bool(group.wait(_READY_SECONDS))
        except BaseException:
            remove_placement_group(group)
            raise
        if taken:
            self._open.callback(remove_placement_group, group)
        else:
            remove_placement_group(group)  # one that waits would be demand for new nodes
        return taken

    def _total(self) -> float:
        import ray

        return next((node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["NodeID"] == self._node), 0.0)

    def _free(self) -> float:
        return free_resources(self._node).get("CPU", 0.0)
