"""Asks the executors of this process's session for CPUs, for work that needs some in Ray: fits, searches and conversions."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from raydp_ml.errors import InvalidValueError, ResourceTimeoutError

if TYPE_CHECKING:
    from raydp_ml.cluster.master import Master

# Amounts of CPUs are floating-point numbers: Ray counts in steps of 0.0001.
_EPSILON = 1e-6
# The masters of the sessions that run in this process: there is one at most.
_lenders: list[Master] = []


def enter(master: Master) -> None:
    """A session has begun, whose executors lend."""
    if master not in _lenders:
        _lenders.append(master)


def leave(master: Master) -> None:
    """A session has ended."""
    if master in _lenders:
        _lenders.remove(master)


class Loan:
    """CPUs that executors were asked for."""

    def __init__(self, loans: Mapping[Master, int]) -> None:
        self._loans = loans

    def ask_again(self) -> None:
        """Ask again, as often as a waiting loop likes: others may have taken what was lent."""
        for master, number in self._loans.items():
            master.ask_again(number)


@contextlib.contextmanager
def ask_for(cpus: float, each: float = 1.0) -> Iterator[Loan]:
    """Have executors lend so many CPUs at once, also those that have tasks.

    Executors take no CPUs back until the block ends; Spark's tasks run meanwhile all the same. Nothing happens where this process
    has no session, or one whose executors keep their CPUs.

    Parameters
    ----------
    cpus : float
        How many CPUs the work needs in all.
    each : float, default 1.0
        How many of them have to be on one node, as those of one training worker.

    Yields
    ------
    Loan
        Asks again, for work that waits still.

    Raises
    ------
    InvalidValueError
        For amounts that are not above 0.

    Examples
    --------
    >>> from raydp_ml.cluster import lending
    >>> with lending.ask_for(4, each=2) as loan:
    ...     loan.ask_again()  # while the work waits
    """
    if not (cpus > 0 and each > 0):
        raise InvalidValueError(f"cpus={cpus!r} and each={each!r} must be more than 0")
    loans = {master: master.ask(cpus, each) for master in list(_lenders)}
    try:
        yield Loan(loans)
    finally:
        for master, number in loans.items():
            master.end_loan(number)


def require_possible(bundle: Mapping[str, float], count: int, work: str) -> None:
    """Refuse work that the nodes of the cluster could not hold even if all of them were idle.

    Parameters
    ----------
    bundle : mapping
        Resources of one piece, which has to be on one node: ``{"CPU": 2, "GPU": 1}``.
    count : int
        How many pieces there are at the same time.
    work : str
        What they are, for the error: ``"training workers"``.

    Raises
    ------
    ResourceTimeoutError
        When they do not fit and no autoscaler could add nodes.

    Examples
    --------
    >>> from raydp_ml.cluster import lending
    >>> lending.require_possible({"CPU": 999}, 1, "training workers")  # doctest: +SKIP
    Traceback (most recent call last):
    raydp_ml.errors.ResourceTimeoutError: the nodes of the Ray cluster could never hold 1 training workers at the same time
    """
    from raydp_ml.cluster.nodes import alive_nodes, autoscaler

    wanted = {name: amount for name, amount in bundle.items() if amount}
    nodes = alive_nodes()
    if not wanted or sum(pieces_that_fit(node, wanted) for node in nodes) >= count or autoscaler() is not None:
        return
    rows = "\n".join(
        f"  {name:<10} {amount:>10g} {amount * count:>10g} {max((node.get(name, 0.0) for node in nodes), default=0.0):>12g} "
        f"{sum(node.get(name, 0.0) for node in nodes):>10g}"
        for name, amount in wanted.items()
    )
    raise ResourceTimeoutError(
        f"the nodes of the Ray cluster could never hold {count} {work} at the same time:\n"
        f"  {'resource':<10} {'each':>10} {'together':>10} {'largest node':>12} {'in all':>10}\n{rows}\n"
        "Take fewer of them, let each have less (resources_per_worker), or add nodes"
    )


def pieces_that_fit(node: Mapping[str, float], bundle: Mapping[str, float]) -> int:
    """How many pieces of work a node holds when it is idle.

    Examples
    --------
    >>> pieces_that_fit({"CPU": 4.0, "GPU": 1.0}, {"CPU": 1.5})
    2
    """
    return min(math.floor((node.get(name, 0.0) + _EPSILON) / amount) for name, amount in bundle.items())
