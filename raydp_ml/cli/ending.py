"""How raydp-submit takes SIGTERM: as an end with the exit code that shells give it, so that ``finally`` blocks end what runs."""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn

__all__ = ["exit_on_sigterm"]


def exit_on_sigterm() -> None:
    """Have SIGTERM raise SystemExit with 143. Ray puts a handler of its own there when it starts, so this comes after, too."""
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
