"""What Ray says of the cluster's nodes: which live, which are to go, and whether an autoscaler may add some.

Draining nodes, free CPUs per node, what waits for CPUs and the autoscaler's report have no public API; seen in Ray 2.60, watched by
tests/session/test_seams.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import ray
from ray.actor import ActorHandle

from raydp_ml.errors import RaydpMLError
from raydp_ml.exchange.ray_seam import client_id, is_client

P = ParamSpec("P")
T = TypeVar("T")
# In a Ray Client: the actor that looks, and the connection that it belongs to.
_looking: tuple[str, ActorHandle] | None = None


class _Look:
    """Calls a function inside the cluster."""

    def at(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return function(*args, **kwargs)


def _in_cluster(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function where Ray's own state can be read, which a Ray Client cannot do itself."""
    global _looking
    if not is_client():
        return function(*args, **kwargs)
    if _looking is None or _looking[0] != client_id():
        _looking = client_id(), ray.remote(_Look).options(num_cpus=0).remote()
    return ray.get(_looking[1].at.remote(function, *args, **kwargs))


@dataclass(frozen=True)
class Autoscaler:
    """What the autoscaler is doing: nodes that it launches, by type, and how many have failed."""

    launching: Mapping[str, int]
    failed: int

    def __str__(self) -> str:
        if not self.launching and not self.failed:
            return "autoscaler: launches nothing now"
        launching = ", ".join(f"{count} x {kind}" for kind, count in sorted(self.launching.items())) or "nothing"
        return f"autoscaler: launching {launching}; {self.failed} nodes failed"


@dataclass(frozen=True)
class CpuState:
    """CPUs of the cluster at one moment: those free on each node, and the amounts that tasks, actors and groups wait for."""

    free: Mapping[str, float]
    awaited: Sequence[float]


def cpu_state(ours: Collection[Mapping[str, float]] = ()) -> CpuState:
    """Free CPUs, and what waits for some.

    Parameters
    ----------
    ours : collection of mapping
        Bundles of placement groups that do not count as waiting, because the caller waits for them.

    Returns
    -------
    CpuState
        Without requests that no node of the cluster could ever fulfil.
    """
    return _in_cluster(_cpu_state, list(ours))


def _cpu_state(ours: Collection[Mapping[str, float]]) -> CpuState:
    from ray._private.state import available_resources_per_node
    from ray._private.worker import global_worker
    from ray.autoscaler.v2.sdk import get_cluster_resource_state

    state = get_cluster_resource_state(global_worker.gcs_client)
    # The state above knows this too, but up to a second late. A node leaves out the resources of which it has none.
    free = {node: resources.get("CPU", 0.0) for node, resources in available_resources_per_node().items()}
    largest = max((node.total_resources.get("CPU", 0.0) for node in state.node_states), default=0.0)
    awaited = [pending.request.resources_bundle.get("CPU", 0.0) for pending in state.pending_resource_requests]
    expected = [dict(bundle) for bundle in ours]
    for group in state.pending_gang_resource_requests:
        for request in group.requests:
            bundle = dict(request.resources_bundle)
            if bundle in expected:
                expected.remove(bundle)
            else:
                awaited.append(bundle.get("CPU", 0.0))
    return CpuState(free, [cpus for cpus in awaited if 0 < cpus <= largest])


def alive_nodes() -> list[dict[str, float]]:
    """Total resources of each living node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def alive_node_ids() -> set[str]:
    """Ids of the living nodes."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def node_label(node_id: str) -> str:
    """Name of the resource that Ray gives a node for its address."""
    for node in ray.nodes():
        if node["NodeID"] == node_id:
            return next(name for name in node["Resources"] if name.startswith("node:") and not name.endswith("__"))
    raise RaydpMLError(f"the Ray node {node_id} is gone")


def session_logs() -> Path:
    """Folder of this node for the logs of the Ray session."""
    context = ray.get_runtime_context()
    folder = Path(context.get_temp_dir()) / context.get_session_name() / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def draining_nodes() -> set[str]:
    """Ids of the nodes that Ray is about to take away (``ray drain-node``, a spot instance's notice, scale-down)."""
    return _in_cluster(_draining_nodes)


def _draining_nodes() -> set[str]:
    from ray._private.state import state

    return set(state.get_draining_nodes())


def autoscaler() -> Autoscaler | None:
    """The cluster's autoscaler; None where nodes come only when somebody starts them."""
    return _in_cluster(_autoscaler)


def _autoscaler() -> Autoscaler | None:
    from ray.experimental.internal_kv import _internal_kv_get

    report = _internal_kv_get("__autoscaling_status")
    told = json.loads(report).get("autoscaler_report") if report else None
    if not told:
        # The second version of the autoscaler, as KubeRay runs it, reports elsewhere.
        return Autoscaler({}, 0) if _internal_kv_get("__autoscaler_v2_enabled") == b"1" else None
    # Ray's monitor runs everywhere; without a configuration it calls each node a type of its own.
    if all(kind == f"node_{node}" for node, kind in (told.get("node_type_mapping") or {}).items()):
        return None
    return Autoscaler(told.get("pending_launches") or {}, len(told.get("failed_nodes") or []))
