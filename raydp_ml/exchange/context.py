"""What the exchange knows of running Spark applications: sessions enter them here, so that the exchange need not know sessions."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ray
from ray.actor import ActorHandle

from raydp_ml.errors import SessionStoppedError
from raydp_ml.exchange.lease_collector import LeaseCollector

if TYPE_CHECKING:
    import pyspark.sql


@dataclass
class ExchangeContext:
    """One Spark application on Ray.

    Attributes
    ----------
    app_id : str
        Spark's id of the application.
    spark : pyspark.sql.SparkSession
        Its session.
    owner : ActorHandle
        The actor that owns its blocks.
    locate : callable
        Node id and host actor of an executor id.
    hosts : callable
        The host actors of all executors.
    require_alive : callable
        Raises SessionStoppedError when the application is over.
    recompute_timeout : float
        Seconds until a lost block that Spark does not compute again is given up.
    ask_for : callable
        Has executors lend so many CPUs until the context manager that it returns ends.
    collector : LeaseCollector
        Watches the frames over lent blocks.
    exports : dict
        The JVM's exporters by export id, which can compute partitions again.
    streamed : set of str
        Those of the exports that read_spark reads, which have no blocks.
    running : set of str
        Those of the exports that run now.
    owner_lost : str, optional
        Why there is no owner any more, and never will be. An owner whose process died is no such case: Ray starts it again.
    """

    app_id: str
    spark: pyspark.sql.SparkSession
    owner: ActorHandle
    locate: Callable[[str], tuple[str | None, ActorHandle | None]]
    hosts: Callable[[], list[ActorHandle]]
    require_alive: Callable[[], None]
    recompute_timeout: float
    ask_for: Callable[[float], AbstractContextManager[object]]
    collector: LeaseCollector
    exports: dict[str, Any] = field(default_factory=dict)
    streamed: set[str] = field(default_factory=set)
    owner_lost: str | None = None
    numbers: itertools.count[int] = field(default_factory=itertools.count)
    running: set[str] = field(default_factory=set)

    def new_id(self, kind: str) -> str:
        """A name for an export or a lease, unique in the application."""
        return f"{kind}{next(self.numbers)}"


OWNER_LOST = "the actor that owns the blocks of the session was ended, and Ray does not start it again"

_contexts: dict[str, ExchangeContext] = {}
# Applications whose session the user's program makes; each says whether a session that nobody knows yet is its own.
_expected: list[Callable[[pyspark.sql.SparkSession], ExchangeContext | None]] = []


def enter(context: ExchangeContext) -> None:
    """Make an application known."""
    _contexts[context.app_id] = context


def leave(app_id: str) -> None:
    """Forget an application."""
    context = _contexts.pop(app_id, None)
    if context is not None:
        context.collector.stop()


def expect(adopt: Callable[[pyspark.sql.SparkSession], ExchangeContext | None]) -> None:
    """Have an application asked whether a session is its own, when nobody knows the session."""
    _expected.append(adopt)


def of_session(spark: pyspark.sql.SparkSession) -> ExchangeContext | None:
    """The context of a session; None for one that raydp_ml did not start."""
    # By identity: asking a context for its id would need its JVM, which may be dead.
    context = spark.sparkContext
    known = next((known for known in _contexts.values() if known.spark.sparkContext is context), None)
    if known is not None:
        return known
    return next((adopted for adopt in _expected if (adopted := adopt(spark)) is not None), None)


def forget_unused(context: ExchangeContext) -> None:
    """Let go of earlier exports that nobody reads any more: each holds its RDD, and so its shuffle files."""
    streamed = sorted(context.streamed)
    # Those that run still, in other threads, may have no block yet.
    ended = [export for export in list(context.exports) if export not in context.running]
    try:
        unused = ray.get(context.owner.unused.remote(ended, streamed))
    except ray.exceptions.ActorDiedError as error:
        context.owner_lost = OWNER_LOST
        raise SessionStoppedError(f"{OWNER_LOST}; start a new session with init_spark") from error
    for export in unused:
        context.exports.pop(export, None)
        context.streamed.discard(export)
        for host in context.hosts():
            host.discard_staged.remote(export)
