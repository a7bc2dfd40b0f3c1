"""What Ray says of the cluster's nodes: which live, which are to go, and whether an autoscaler may add some.

Draining nodes and the autoscaler's report have no public API; seen in Ray 2.60, watched by tests/session/test_seams.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ray

from raydp_ml.errors import RaydpMLError


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


def alive_nodes() -> list[dict[str, float]]:
    """Total resources of each living node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


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
    from ray._private.state import state

    return set(state.get_draining_nodes())


def autoscaler() -> Autoscaler | None:
    """The cluster's autoscaler; None where nodes come only when somebody starts them."""
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
