"""What Ray says of the cluster's nodes: which live, and which are to go.

Draining nodes have no public API; seen in Ray 2.60, watched by tests/session/test_seams.py.
"""

from __future__ import annotations

import ray


def alive_nodes() -> list[dict[str, float]]:
    """Total resources of each living node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def draining_nodes() -> set[str]:
    """Ids of the nodes that Ray is about to take away (``ray drain-node``, a spot instance's notice, scale-down)."""
    from ray._private.state import state

    return set(state.get_draining_nodes())
