"""How much memory there is, as this process sees it."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["available_memory"]


def available_memory() -> int:
    """How many bytes this process could still use: what Linux says is available, within the limit of its control group.

    Examples
    --------
    >>> available_memory() > 0
    True
    """
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    found = [int(lines["MemAvailable"].split()[0]) * 1024]
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if os.access(limit, os.R_OK) and os.access(used, os.R_OK) and limit.read_text().strip() != "max":
        found.append(int(limit.read_text()) - int(used.read_text()))
    return max(0, min(found))
