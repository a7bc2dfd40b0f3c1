"""Has the driver's JVM look for frames that nobody holds, when Python has dropped some and an object store is filling up.

A lease on blocks ends when the JVM collects the last plan over them (BlockLease.scala). A JVM whose heap has room does not look for
a long time, and Ray would meanwhile spill blocks of dropped frames to disk.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)

# Ray begins to spill when 80 % of a store is used.
FULL = 0.6
SHORTEST_PAUSE, LONGEST_PAUSE = 5.0, 60.0
# Py4J tells the JVM up to a second late that Python has dropped an object.
_SETTLED_SECONDS = 1.5
_LOOK_SECONDS = 0.5


@dataclass
class CollectionPace:
    """When the next collection may be asked for.

    A frame of which Python dropped the first variable may live on in frames that were derived from it, and then a collection frees
    nothing. So the pause doubles with each collection, up to a minute, until another frame is dropped or a lease has ended.

    Examples
    --------
    >>> pace = CollectionPace()
    >>> pace.dropped("lease0", now=0.0)
    >>> pace.is_due(now=1.0), pace.is_due(now=2.0)
    (False, True)
    >>> pace.collected(now=2.0)
    >>> pace.is_due(now=6.9), pace.is_due(now=7.0)
    (False, True)
    """

    pause: float = SHORTEST_PAUSE
    _last: float = float("-inf")
    _dropped: dict[str, float] = field(default_factory=dict)

    @property
    def waits(self) -> bool:
        """Whether any lease is held whose frame was dropped."""
        return bool(self._dropped)

    def dropped(self, lease: str, now: float) -> None:
        """Python has let go of the frame over a lease."""
        self._dropped[lease] = now
        self.pause = SHORTEST_PAUSE

    def still_held(self, leases: list[str]) -> None:
        """These leases have not ended."""
        held = {lease: at for lease, at in self._dropped.items() if lease in leases}
        if len(held) < len(self._dropped):
            self.pause = SHORTEST_PAUSE
        self._dropped = held

    def is_due(self, now: float) -> bool:
        """Whether a collection may find something, and the last one is long enough ago."""
        settled = any(now - at >= _SETTLED_SECONDS for at in self._dropped.values())
        return settled and now - self._last >= self.pause

    def collected(self, now: float) -> None:
        """A collection was asked for."""
        if self._last > float("-inf"):
            self.pause = min(LONGEST_PAUSE, 2 * self.pause)
        self._last = now


class LeaseCollector:
    """Watches the frames of one application, in a thread of the driver process that sleeps while no frame was dropped.

    Parameters
    ----------
    collect : callable
        Has the JVM collect what is not referred to.
    leases : callable
        Names of the leases that are held.
    level : callable
        How full the fullest object store is, 0 to 1.
    """

    def __init__(
        self, collect: Callable[[], object], leases: Callable[[], list[str]], level: Callable[[], float]
    ) -> None:
        self._collect = collect
        self._leases = leases
        self._level = level
        self._pace = CollectionPace()
        # Python may run a finalizer at any point of any thread: a SimpleQueue can be written to even then.
        self._dropped: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._watch, name="raydp-ml-leases", daemon=True).start()

    def watch(self, frame: object, lease: str) -> None:
        """Take note when Python drops the frame over a lease."""
        weakref.finalize(frame, self._dropped.put, lease).atexit = False

    def stop(self) -> None:
        """End the thread."""
        self._dropped.put(None)

    def _watch(self) -> None:
        try:
            while self._take_dropped():
                self._pace.still_held(self._leases())
                now = time.monotonic()
                if self._pace.is_due(now) and self._level() >= FULL:
                    logger.debug("an object store is %.0f %% full: the JVM collects", 100 * self._level())
                    self._collect()
                    self._pace.collected(now)
        except Exception as error:
            # The session, its JVM or Ray has ended.
            logger.debug("frames are no longer watched: %s", error)

    def _take_dropped(self) -> bool:
        """Wait for frames that are dropped, not for long while others wait for a collection; False at the end."""
        timeout = _LOOK_SECONDS if self._pace.waits else None
        try:
            while True:
                lease = self._dropped.get(timeout=timeout)
                if lease is None:
                    return False
                self._pace.dropped(lease, time.monotonic())
                timeout = 0
        except queue.Empty:
            return True
