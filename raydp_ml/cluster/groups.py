"""Placement groups of one bundle: asked for, watched until Ray has made them, and removed.

They belong to the driver's job, so that Ray removes those that a killed driver leaves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import ray
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group

# Groups are looked at often while they are young, and less often when they wait for room.
_OFTEN_SECONDS = 0.02
_RARELY_SECONDS = 0.5
_YOUNG_SECONDS = 3.0
# The label that Ray gives each node. The resource node:<address> is no name of a node where several share an address.
_NODE_LABEL = "ray.io/node-id"


@dataclass(frozen=True)
class _Awaited:
    bundle: Mapping[str, float]
    ready: Callable[[str], None]
    since: float


class Groups:
    """The groups of one session. One thread uses it."""

    def __init__(self) -> None:
        self._awaited: dict[PlacementGroup, _Awaited] = {}
        self._made: set[PlacementGroup] = set()

    def ask(self, bundle: Mapping[str, float], node_id: str | None, ready: Callable[[str], None]) -> PlacementGroup:
        """Ask Ray for a group.

        Parameters
        ----------
        bundle : mapping
            Its resources.
        node_id : str or None
            The node that it has to be on; None for any.
        ready : callable
            Called with the node by :meth:`look` when the group is there.
        """
        selector = None if node_id is None else [{_NODE_LABEL: node_id}]
        group = placement_group([dict(bundle)], bundle_label_selector=selector)
        self._awaited[group] = _Awaited(bundle, ready, time.monotonic())
        return group

    def look(self) -> None:
        """Call those back whose groups are there."""
        tables = {group: placement_group_table(group) for group in self._awaited}
        made = {group: table for group, table in tables.items() if table.get("state") == "CREATED"}
        callbacks = {group: self._awaited.pop(group).ready for group in made}
        self._made.update(made)
        for group, ready in callbacks.items():
            ready(made[group]["bundles_to_node_id"][0])

    def wait(self) -> float | None:
        """Seconds until the next look; None when no group is awaited."""
        if not self._awaited:
            return None
        newest = max(awaited.since for awaited in self._awaited.values())
        return _OFTEN_SECONDS if time.monotonic() - newest < _YOUNG_SECONDS else _RARELY_SECONDS

    def awaits(self, group: PlacementGroup) -> bool:
        """Whether a group is not there yet."""
        return group in self._awaited

    def awaited(self) -> Collection[Mapping[str, float]]:
        """Bundles of the groups that are not there yet."""
        return [awaited.bundle for awaited in self._awaited.values()]

    def drop(self, group: PlacementGroup) -> None:
        """Remove a group, whether it is there or not."""
        self._awaited.pop(group, None)
        self._made.discard(group)
        if ray.is_initialized():
            remove_placement_group(group)

    def close(self) -> None:
        """Remove all groups."""
        for group in [*self._awaited, *self._made]:
            self.drop(group)
