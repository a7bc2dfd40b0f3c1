"""Places for executors: a placement group with all that an executor needs tells its node, and makes room there for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ray.util.placement_group import PlacementGroup

from raydp_ml.cluster.groups import Groups


@dataclass(eq=False)
class Place:
    """The request for a place; it has no group while it stands back for others."""

    bundle: Mapping[str, float]
    node_id: str | None
    found: Callable[[str], None]
    since: float
    group: PlacementGroup | None = None


class Places:
    """The places that executors of one session wait for.

    A place that was found is free from then on, so that the executor's actor and its CPU reservation can take it. The places that
    are still awaited stand back meanwhile: they would take it first, and executors would pile up on the nodes that come first.
    """

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self._awaited: list[Place] = []

    def ask(self, bundle: Mapping[str, float], node_id: str | None, found: Callable[[str], None]) -> Place:
        """Ask for a place.

        Parameters
        ----------
        bundle : mapping
            Resources that it needs.
        node_id : str or None
            Node that it has to be on; None for any.
        found : callable
            Called with the node when the place was there. It is free from then on.
        """
        place = Place(bundle, node_id, found, time.monotonic())
        self._awaited.append(place)
        self._request(place)
        return place

    def _request(self, place: Place) -> None:
        place.group = self._groups.ask(place.bundle, place.node_id, lambda node_id: self._on_group(place, node_id))

    def _on_group(self, place: Place, node_id: str) -> None:
        for other in self._awaited:
            if other.group is not None and self._groups.awaits(other.group):
                self._groups.drop(other.group)
                other.group = None
        self.end(place)
        place.found(node_id)

    def stand_back(self) -> bool:
        """Whether places stand back until :meth:`ask_again`."""
        return any(place.group is None for place in self._awaited)

    def ask_again(self) -> None:
        """Ask again for the places that stood back."""
        for place in self._awaited:
            if place.group is None:
                self._request(place)

    def end(self, place: Place) -> None:
        """Ask for a place no longer."""
        if place in self._awaited:
            self._awaited.remove(place)
        if place.group is not None:
            self._groups.drop(place.group)
            place.group = None

    def waiting_since(self) -> float | None:
        """Since when the youngest of the awaited places is asked for; None when none is awaited."""
        return max((place.since for place in self._awaited), default=None)
