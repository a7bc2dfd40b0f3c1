"""Between trials, which ask for folds, and the driver, whose Spark makes them."""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from raydp_ml.errors import RaydpMLError

__all__ = ["Broker", "FoldService"]

Key = tuple[int, int]
"""A prefix and a fold."""

# How many folds are made at the same time.
_MAKERS = 2
# How many more folds than those that were asked for: Spark computes the next ones while trials train.
_AHEAD = 2


class Broker:
    """An asynchronous Ray actor: a question waits in it until the driver has answered."""

    def __init__(self) -> None:
        self._answers: dict[Key, asyncio.Future[Any]] = {}
        self._asked: set[Key] = set()
        self._events: list[tuple[str, Any]] = []
        self._news = asyncio.Event()

    async def get(self, key: Key) -> Any:
        """The fold, or the exception of making it; the first to ask causes it to be made, unless it is there already."""
        if key not in self._asked:
            self._asked.add(key)
            self._tell(("wanted", key))
        return await asyncio.shield(self._answer_of(key))

    def _answer_of(self, key: Key) -> asyncio.Future[Any]:
        if key not in self._answers:
            self._answers[key] = asyncio.get_running_loop().create_future()
        return self._answers[key]

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
        waiting = self._answer_of(key)
        if not waiting.done():
            waiting.set_result(value)

    async def forget(self, keys: list[Key]) -> None:
        """Let folds go that nobody will ask for any more."""
        for key in keys:
            self._answers.pop(key, None)
            self._asked.discard(key)


class FoldService:
    """Answers the broker's questions from threads of the driver, for as long as the ``with`` block runs.

    Two folds are made at the same time: the steps of one are fitted while the rows of the other cross. When one is asked for,
    the next two are made as well if nothing else is to be done, first those of the same prefix.

    Parameters
    ----------
    n_splits : int
        How many folds there are.
    make : callable
        Takes (prefix, fold) and returns the fold.
    release : callable
        Takes a prefix that no candidate needs any more.
    cancel : callable
        Stops a running ``make`` soon; called when the block is left early.
    """

    def __init__(
        self,
        n_splits: int,
        make: Callable[[int, int], Any],
        release: Callable[[int], None],
        cancel: Callable[[], None],
    ) -> None:
        import ray

        self._n_splits = n_splits
        self._make, self._release, self._cancel = make, release, cancel
        self._waiting: dict[int, int] = {}
        # Those that were asked for (0) come before those that will be (1), in their order; None is the end.
        self._to_make: queue.PriorityQueue[tuple[int, int, Key | None]] = queue.PriorityQueue()
        self._order = itertools.count()
        self._asked: set[Key] = set()
        self._taken: set[Key] = set()
        self._made: set[Key] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.broker = ray.remote(Broker).options(num_cpus=0).remote()

    def expect(self, candidate: int, prefix: int) -> None:
        """Keep the folds of a prefix until this candidate is finished."""
        with self._lock:
            self._waiting[candidate] = prefix

    def finished(self, candidate: int) -> None:
        """A candidate needs its folds no more, whether its trial ended well or died."""
        self.broker.finished.remote(candidate)

    def __enter__(self) -> FoldService:
        from pyspark import InheritableThread

        targets = [self._listen, *[self._answer_questions] * _MAKERS]
        # Each in a copy of the caller's context: what Spark waits for is said, or not, as the search says it.
        self._threads = [
            InheritableThread(target=copy_context().run, args=(target,), name="raydp_ml-folds", daemon=True)
            for target in targets
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        import ray

        self._stop.set()
        for _ in range(_MAKERS):
            self._to_make.put((-1, next(self._order), None))
        with self._lock:
            making = bool(self._taken - self._made)
        if making or error[0] is not None:
            self._cancel()  # nobody will ask for what is being made
        for thread in self._threads:
            thread.join(timeout=5)
        ray.kill(self.broker)

    def _listen(self) -> None:
        import ray
        from ray.exceptions import RayError

        while not self._stop.is_set():
            try:
                for event, subject in ray.get(self.broker.events.remote(0.5)):
                    if event == "finished":
                        self._finish(subject)
                    else:
                        self._want(subject)
            except RayError:
                return  # the broker is gone and with it everybody who could ask

    def _want(self, key: Key) -> None:
        with self._lock:
            self._asked.add(key)
            ahead = self._following(key)
        self._to_make.put((0, next(self._order), key))
        for each in ahead:
            self._to_make.put((1, next(self._order), each))

    def _following(self, key: Key) -> list[Key]:
        """The next folds in the order in which trials ask for them."""
        prefix, fold = key
        later = sorted({each for each in self._waiting.values() if each > prefix})
        rest = [(prefix, number) for number in range(fold + 1, self._n_splits)]
        return [*rest, *[(each, number) for each in later[:_AHEAD] for number in range(self._n_splits)]][:_AHEAD]

    def _answer_questions(self) -> None:
        import ray
        from ray.exceptions import RayError

        while (key := self._to_make.get()[-1]) is not None and not self._stop.is_set():
            with self._lock:
                wanted = key in self._asked or key[0] in self._waiting.values()
                if key in self._taken or not wanted:
                    continue
                self._taken.add(key)
            answer = self._answer(key)
            with self._lock:
                self._made.add(key)
            try:
                ray.get(self.broker.answer.remote(key, answer))
                self._let_go(key[0])  # its candidates may have ended meanwhile
            except RayError:
                return

    def _answer(self, key: Key) -> Any:
        try:
            return self._make(*key)
        except Exception as error:  # any step may fail in any way; the trials that asked get to know
            # Errors of Spark hold handles to its JVM, which do not travel.
            return error if isinstance(error, RaydpMLError) else RaydpMLError(f"{type(error).__name__}: {error}")

    def _finish(self, candidate: int) -> None:
        with self._lock:
            prefix = self._waiting.pop(candidate, None)
        if prefix is not None:
            self._let_go(prefix)

    def _let_go(self, prefix: int) -> None:
        """Release the folds of a prefix when no candidate needs it any more."""
        import ray

        with self._lock:
            if prefix in self._waiting.values():
                return
            made = [key for key in self._made if key[0] == prefix]
            if not made:
                return
            for keys in (self._asked, self._taken, self._made):
                keys.difference_update(made)
        ray.get(self.broker.forget.remote(made))
        self._release(prefix)
