"""The actor that owns converted blocks, one per Spark application.

Ray frees an object when its owner ends, and rebuilds it as long as the owner lives. So this actor, and neither the driver nor an
executor, submits the tasks that make blocks: blocks outlive executors and Spark, and ending the actor frees them all at once.

When its process dies, Ray starts the actor again, without anything that it knew: the blocks of its predecessor are lost, calls that
were not answered are made again, and new blocks are made as before.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raydp_ml.errors import BlockLostError
from raydp_ml.exchange.blocks import BlockInfo, BlockSpec, StagedPartition, load_blocks, relist_block
from raydp_ml.exchange.ray_seam import referenced_objects

# Imports on one node at a time: each is a Ray worker process, which takes more than a second to start and then copies memory at
# about 1 GB/s, faster than several cores of Spark fill it.
_FEWEST_IMPORTS, _MOST_IMPORTS, _CPUS_PER_IMPORT = 2, 8, 4

# How long a driver may take to ask for the first request.
_SERVED_SECONDS = 60.0


def _imports(node: str | None) -> int:
    cpus = sum(known["Resources"].get("CPU", 0) for known in ray.nodes() if known["NodeID"] == node)
    return max(_FEWEST_IMPORTS, min(_MOST_IMPORTS, int(cpus) // _CPUS_PER_IMPORT))


@dataclass(frozen=True)
class RecomputeRequest:
    """A partition that the driver shall compute again."""

    number: int
    export_id: str
    partition: int


@dataclass
class _Lease:
    refs: list[ray.ObjectRef]
    details: Any


@dataclass
class _Pending:
    answer: asyncio.Future[StagedPartition]
    request: RecomputeRequest = field(repr=False)


class BlockOwner:
    """Submits the tasks that make blocks, lends blocks to Spark, and passes requests for recompute on to the driver."""

    def __init__(self) -> None:
        self._slots: dict[str | None, asyncio.Semaphore] = {}
        self._leases: dict[str, _Lease] = {}
        self._blocks: dict[str, set[str]] = {}
        self._requests: asyncio.Queue[RecomputeRequest | None] = asyncio.Queue()
        self._pending: dict[int, _Pending] = {}
        self._numbers = itertools.count()
        self._stopped: str | None = None
        self._served = asyncio.Event()

    async def ready(self) -> str:
        """Node that the owner runs on."""
        return ray.get_runtime_context().get_node_id()

    async def load(self, specs: list[BlockSpec]) -> tuple[list[ray.ObjectRef], list[BlockInfo]]:
        """Make some blocks of one export, whose files lie on one node, in one task.

        Returns
        -------
        list of ObjectRef
            The blocks, in a list so that Ray passes references and not blocks.
        list of BlockInfo
            Their sizes.
        """
        node = specs[0].node_id
        if node not in self._slots:
            self._slots[node] = asyncio.Semaphore(_imports(node))
        async with self._slots[node]:
            there = "DEFAULT" if node is None else NodeAffinitySchedulingStrategy(node, soft=True)
            task = load_blocks.options(num_returns=len(specs) + 1, scheduling_strategy=there)
            *blocks, infos = task.remote(specs, ray.get_runtime_context().current_actor)
            self._blocks.setdefault(specs[0].export_id, set()).update(block.hex() for block in blocks)
            # Waiting for the small last result is waiting for the task, and does not move the blocks here.
            return blocks, await infos

    async def relist(self, export_id: str, block: list[ray.ObjectRef], names: tuple[str, ...]) -> list[ray.ObjectRef]:
        """The one block of a list, in a list as by :meth:`load`, with lists in place of tensors."""
        made = relist_block.remote(block[0], names)
        self._blocks.setdefault(export_id, set()).add(made.hex())
        return [made]

    async def unused(self, exports: list[str], streamed: list[str]) -> list[str]:
        """Those of the exports whose blocks nobody refers to any more, and no lineage needs: nothing will ask for them again.

        Those that are streamed have no blocks but what :meth:`hold` gave out. A predecessor may have given it out, so one that is
        not known here counts as used.
        """
        living = referenced_objects()
        from_before = set(streamed) - self._blocks.keys()
        unused = [e for e in exports if e not in from_before and not self._blocks.get(e, set()) & living]
        for export in unused:
            self._blocks.pop(export, None)
        return unused

    async def hold(self, export_id: str) -> list[ray.ObjectRef]:
        """An object, wrapped; while somebody refers to it, the export is in use."""
        mark = ray.put(export_id)
        self._blocks.setdefault(export_id, set()).add(mark.hex())
        return [mark]

    async def recompute(self, export_id: str, partition: int, timeout: float | None) -> StagedPartition:
        """Have the driver compute one partition; again, for a block that was lost.

        Raises
        ------
        BlockLostError
            When Spark is stopped, or does not answer in time.
        """
        if self._stopped is not None:
            raise BlockLostError(self._stopped)
        try:
            await asyncio.wait_for(self._served.wait(), _SERVED_SECONDS)
        except TimeoutError:
            # Its predecessor knew that Spark was stopped, for example.
            raise BlockLostError(
                f"partition {partition} was lost, and no driver is there to have it computed again"
            ) from None
        request = RecomputeRequest(next(self._numbers), export_id, partition)
        answer: asyncio.Future[StagedPartition] = asyncio.get_running_loop().create_future()
        self._pending[request.number] = _Pending(answer, request)
        await self._requests.put(request)
        try:
            return await asyncio.wait_for(answer, timeout)
        except TimeoutError:
            raise BlockLostError(
                f"partition {partition} was lost, and Spark did not compute it again within {timeout:g} s"
            ) from None
        finally:
            self._pending.pop(request.number, None)

    async def next_recompute(self) -> RecomputeRequest | None:
        """Wait for the next request; None when there will be no more."""
        self._served.set()
        return await self._requests.get()

    async def finish_recompute(self, number: int, staged: StagedPartition | None, problem: str | None) -> None:
        """The driver's answer to a request."""
        pending = self._pending.get(number)
        if pending is None or pending.answer.done():
            return
        if staged is not None:
            pending.answer.set_result(staged)
        else:
            pending.answer.set_exception(BlockLostError(problem or "the partition could not be computed again"))

    async def spark_stopped(self, reason: str) -> None:
        """From now on a lost block is lost; whoever waits hears it."""
        self._stopped = reason
        for pending in list(self._pending.values()):
            if not pending.answer.done():
                pending.answer.set_exception(BlockLostError(reason))
        self._leases.clear()
        await self._requests.put(None)

    async def lend(self, lease: str, refs: list[ray.ObjectRef], details: Any) -> None:
        """Keep blocks alive until :meth:`release`, for Spark to read."""
        self._leases[lease] = _Lease(refs, details)

    async def lent(self, lease: str, indices: list[int], with_details: bool) -> tuple[list[ray.ObjectRef], Any]:
        """Some blocks of a lease, as a list so that Ray passes references; and what was said about the lease, if asked for."""
        if lease not in self._leases:
            raise BlockLostError(
                f"the Ray Dataset behind lease {lease} is no longer lent to Spark: the actor that lent it died and was started "
                "again; call to_spark again"
            )
        held = self._leases[lease]
        return [held.refs[index] for index in indices], held.details if with_details else None

    async def release(self, lease: str) -> None:
        """Let the blocks of a lease go."""
        self._leases.pop(lease, None)

    async def leases(self) -> list[str]:
        """Names of the leases that are held."""
        return sorted(self._leases)
