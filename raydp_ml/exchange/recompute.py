"""Has Spark compute single partitions for tasks that ask the owner: for blocks that were lost, and for read_spark."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import ray

from raydp_ml.exchange.blocks import StagedPartition
from raydp_ml.exchange.context import OWNER_LOST, ExchangeContext
from raydp_ml.exchange.owner import RecomputeRequest

logger = logging.getLogger(__name__)

AT_ONCE = 8


class RecomputeService:
    """Runs in threads of the driver process, since only the driver can start Spark jobs."""

    def __init__(self, context: ExchangeContext) -> None:
        self._context = context
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="raydp-ml-recompute")
        threading.Thread(target=self._serve, name="raydp-ml-recompute", daemon=True).start()

    def _serve(self) -> None:
        request = self._next()
        while request is not None:
            self._pool.submit(self._answer, request)
            request = self._next()
        self._pool.shutdown(wait=False)

    def _next(self) -> RecomputeRequest | None:
        """The next request; None when there will be no more."""
        owner = self._context.owner
        try:
            while True:
                try:
                    # Not asked again by Ray, so that the driver hears of a restart. (A Ray Client knows no ray.method for it.)
                    return ray.get(owner.next_recompute.options(max_task_retries=0).remote())
                except ray.exceptions.ActorUnavailableError:
                    ray.get(owner.ready.remote())  # returns when Ray has started it again
                    logger.warning(
                        "the actor that owns the blocks of this Spark session died, for want of memory perhaps, and was started "
                        "again; blocks of earlier from_spark calls are lost (OwnerDiedError), and frames of earlier to_spark calls"
                    )
        except ray.exceptions.ActorDiedError:
            # When the session ends, nobody asks for this any more.
            self._context.owner_lost = OWNER_LOST
        except (ray.exceptions.RayError, RuntimeError) as error:
            logger.debug("the owner of the blocks is gone: %s", error)
        return None

    def _answer(self, request: RecomputeRequest) -> None:
        staged, problem = None, None
        try:
            exporter = self._context.exports.get(request.export_id)
            if exporter is None:
                problem = "its frame is no longer held by Spark"
            else:
                staged = StagedPartition.parse(exporter.compute(request.partition))
                staged = staged.at(*self._context.locate(staged.executor))
        except Exception as error:
            # Whatever went wrong belongs to the task that waits for the block.
            problem = f"computing partition {request.partition} failed: {error}"
        self._context.owner.finish_recompute.remote(request.number, staged, problem)
