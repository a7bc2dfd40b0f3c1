"""Between trials, which ask for folds, and the driver, whose Spark makes them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from raydp_ml.errors import RaydpMLError

__all__ = ["Broker", "FoldService"]

Key = tuple[int, int]


class Broker:
    """An asynchronous Ray actor: a question waits in it until the driver has answered."""

    def __init__(self) -> None:
        self._answers: dict[Key, asyncio.Future] = {}
        self._events: list[tuple[str, Any]] = []
        self._news = asyncio.Event()

    async def get(self, key: Key) -> Any:
        """The fold, or the exception of making it; the first to ask causes it to be made."""
        if key not in self._answers:
            self._answers[key] = asyncio.get_running_loop().create_future()
            self._tell(("wanted", key))
        return await asyncio.shield(self._answers[key])

    async def finished(self, candidate: int) -> None:
        """A trial is through with its candidate."""
        self._tell(("finished", candidate))

    def _tell(self, event: tuple[str, Any]) -> None:
        self._events.append(event)
        self._news.set()

    async def events(self, wait: float) -> list[tuple[str, Any]]:
        """What happened since the last call; waits for something to happen, but no longer than ``wait`` seconds."""
        try:
            await asyncio.wait_for(self._news.wait(), wait)
        except TimeoutError:
            return []
        self._news.clear()
        events, self._events = self._events, []
        return events

    async def answer(self, key: Key, value: Any) -> None:
        """Give all who asked, and will ask, for this fold what they wait for."""
        self._answers[key].set_result(value)

    async def forget(self, keys: list[Key]) -> None:
        """Let folds go that nobody will ask for any more."""
        for key in keys:
            self._answers.pop(key, None)


class FoldService:
    """Answers the broker's questions from a thread of the driver, for as long as the ``with`` block runs.

    Parameters
    ----------
    make : callable
        Takes (prefix, fold) and returns the fold.
    release : callable
        Takes a prefix that no candidate needs any more.
    prefixes : list of int
        The prefix of each candidate.
    n_splits : int
        Folds of each.
    cancel : callable
        Stops a running ``make`` soon; called when the block is left early.
    """

    def __init__(
        self,
        make: Callable[[int, int], Any],
        release: Callable[[int], None],
        prefixes: list[int],
        n_splits: int,
        cancel: Callable[[], None],
    ) -> None:
        import ray

        self._make, self._release, self._cancel = make, release, cancel
        self._prefixes, self._n_splits = prefixes, n_splits
        self._open = set(range(len(prefixes)))
        self._stop = threading.Event()
        self.broker = ray.remote(Broker).options(num_cpus=0).remote()

    def __enter__(self) -> FoldService:
        from pyspark import InheritableThread

        self._thread = InheritableThread(target=self._serve, name="raydp_ml-folds", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        import ray

        self._stop.set()
        if error[0] is not None:
            self._cancel()
        self._thread.join(timeout=5)
        ray.kill(self.broker)

    def finished(self, candidate: int) -> None:
        """A candidate needs its folds no more, whether its trial ended well or died."""
        self.broker.finished.remote(candidate)

    def _serve(self) -> None:
        import ray
        from ray.exceptions import RayError

        while not self._stop.is_set():
            try:
                events = ray.get(self.broker.events.remote(0.5))
                for what, about in events:
                    if what == "finished":
                        self._finish(about)
                    elif not self._stop.is_set():
                        ray.get(self.broker.answer.remote(about, self._answer(about)))
            except RayError:
                return  # the broker is gone and with it everybody who could ask

    def _answer(self, key: Key) -> Any:
        try:
            return self._make(*key)
        except Exception as error:  # any step may fail in any way; the trials that asked get to know
            # Errors of Spark hold handles to its JVM, which do not travel.
            return error if isinstance(error, RaydpMLError) else RaydpMLError(f"{type(error).__name__}: {error}")

    def _finish(self, candidate: int) -> None:
        import ray

        self._open.discard(candidate)
        prefix = self._prefixes[candidate]
        if any(self._prefixes[other] == prefix for other in self._open):
            return
        ray.get(self.broker.forget.remote([(prefix, number) for number in range(self._n_splits)]))
        self._release(prefix)
