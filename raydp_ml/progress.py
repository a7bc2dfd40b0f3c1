"""Says what a call waits for, when it takes long: one line on the standard error stream for each thing that is waited for."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["Pending", "call", "quiet", "waiting_for"]

# A call that takes longer says what it waits for.
_FIRST_SECONDS = 1.5
# From then on what takes longer is said; shorter waits would only flicker by.
_LATER_SECONDS = 0.5


@dataclass(frozen=True)
class _Call:
    """A call of the user: what stands before its lines, whether there are any, and when it began."""

    label: str
    shown: bool
    began: float


_current: ContextVar[_Call | None] = ContextVar("raydp_ml_call", default=None)
_pending: ContextVar[Pending | None] = ContextVar("raydp_ml_pending", default=None)


@contextmanager
def call(label: str, shown: bool = True) -> Iterator[None]:
    """A call of the user, in which things are waited for.

    Parameters
    ----------
    label : str
        What stands before its lines.
    shown : bool, default=True
        Whether there are lines. Where the call is part of another one that has none, there are none.

    Examples
    --------
    >>> with call("XGBEstimator", shown=False), waiting_for("nothing"):
    ...     pass
    """
    outer = _current.get()
    began = time.monotonic() if outer is None else outer.began
    token = _current.set(_Call(label, shown and (outer is None or outer.shown), began))
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def quiet() -> Iterator[None]:
    """Have calls say nothing of what they wait for, those without a parameter ``verbose`` too.

    Examples
    --------
    >>> from raydp_ml import progress
    >>> with progress.quiet():
    ...     pass  # from_spark(df)
    """
    with call("", shown=False):
        yield


@contextmanager
def waiting_for(what: str | Callable[[], str]) -> Iterator[None]:
    """Something that the current call waits for while the block runs; a block inside of it says more, and stands for it.

    Parameters
    ----------
    what : str or callable
        The line: ``"Spark starts"``. A callable is asked when the line is due.

    Examples
    --------
    >>> with waiting_for("Spark starts"):
    ...     pass
    """
    now = time.monotonic()
    current = _current.get() or _Call("raydp_ml", True, now)
    if not current.shown:
        yield
        return
    outer = _pending.get()
    if outer is not None:
        outer.cancel()
    pending = Pending(current.label, what, max(_LATER_SECONDS, current.began + _FIRST_SECONDS - now))
    token = _pending.set(pending)
    try:
        yield
    finally:
        pending.cancel()
        _pending.reset(token)


class Pending:
    """A line that is written after some seconds, unless it is cancelled before.

    Parameters
    ----------
    label : str
        What stands before it.
    what : str or callable
        What is waited for.
    seconds : float
        When it is written.

    Examples
    --------
    >>> Pending("XGBEstimator", "epoch 1 of 10").cancel()
    """

    def __init__(self, label: str, what: str | Callable[[], str], seconds: float = _FIRST_SECONDS) -> None:
        self._label, self._what = label, what
        self._timer = threading.Timer(seconds, self._write)
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        """What was waited for is there."""
        self._timer.cancel()

    def _write(self) -> None:
        what = self._what if isinstance(self._what, str) else self._what()
        sys.stderr.write(f"[{self._label}] {what} ...\n")
        sys.stderr.flush()
