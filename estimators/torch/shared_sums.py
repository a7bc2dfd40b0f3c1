"""Sums over workers of one machine, through memory that they share.

The step of a small network is over in a millisecond. A sum of gloo, the library behind torch.distributed on CPUs, goes through
sockets and two threads of each worker, which wake each other several times; that may take twice as long as the step.
"""

from __future__ import annotations

import mmap
import os
import platform
import time
import uuid
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from raydp_ml.errors import RaydpMLError

__all__ = ["SharedSums", "average", "machine"]

# What is larger takes longer to compute than to send, and all workers read the values of all.
_LARGEST_BYTES = 4 << 20
# A worker that waits looks without a pause, then lets others compute between two looks, for some milliseconds, and then rests.
_LOOKS, _YIELDS = 200, 10_000
_REST_SECONDS = 2e-4
# torch.distributed gives up after as long.
_GIVE_UP_SECONDS = 1800.0
_HEAD_BYTES = 4096
# Counters stand in cache lines of their own.
_LINE_BYTES = 64


class SharedSums:
    """Memory in which each worker writes its values and reads those of the others.

    Each sum has a number. A worker writes its values into a place of its own, then the number into its counter; where all
    counters have reached the number, all values are there. There are two sets of places, used in turn: who writes into one has
    seen all counters reach the number before, so that nobody reads there any more.

    Parameters
    ----------
    memory : mmap.mmap
        The shared memory.
    rank, count : int
        Which of how many workers this is.
    capacity : int
        How many bytes one sum has at most.
    """

    def __init__(self, memory: mmap.mmap, rank: int, count: int, capacity: int) -> None:
        self._rank, self._count, self._capacity = rank, count, capacity
        self._counters = memoryview(memory)[_LINE_BYTES : _LINE_BYTES * (count + 1)].cast("q")
        places = torch.frombuffer(memory, dtype=torch.uint8)[_HEAD_BYTES:].view(2, count, capacity)
        self._places = [[places[half, worker] for worker in range(count)] for half in range(2)]
        self._number = 0
        # The same few kinds of sums come in every step.
        self._views: dict[tuple[int, torch.dtype, int], list[torch.Tensor]] = {}

    @classmethod
    def for_gradients(cls, module: torch.nn.Module) -> SharedSums | None:
        """Memory for the gradients of a module, which all workers call for.

        Parameters
        ----------
        module : torch.nn.Module
            The module; on all workers the same.

        Returns
        -------
        SharedSums or None
            None where the workers are on several machines, and where gradients are sparse, or too large to gain from it.
        """
        if any(getattr(layer, "sparse", False) for layer in module.modules()):
            return None
        return cls.open(sum(each.numel() * each.element_size() for each in module.parameters() if each.requires_grad))

    @classmethod
    def open(cls, size: int) -> SharedSums | None:
        """Memory for sums of at most so many bytes, which all workers of the process group call for; None as above."""
        rank, count, capacity = dist.get_rank(), dist.get_world_size(), -(-max(size, 1024) // 64) * 64
        total = _HEAD_BYTES + 2 * count * capacity
        if size > _LARGEST_BYTES or _LINE_BYTES * (count + 1) > _HEAD_BYTES:
            return None
        here, file, token = machine(), -1, uuid.uuid4().bytes
        if here is not None and rank == 0:
            file = os.memfd_create("raydp_ml_sums", os.MFD_CLOEXEC)
        try:
            if file >= 0:
                os.ftruncate(file, total)
                os.pwrite(file, token, 0)
            said: list[Any] = [None] * count
            dist.all_gather_object(said, (here, os.getpid(), file, token))
            _, pid, theirs, token = said[0]
            memory = None
            if here is not None and all(each[0] == here for each in said):
                memory = _mapped(f"/proc/{pid}/fd/{theirs}", total, token)
            opened = torch.tensor(int(memory is not None))
            dist.all_reduce(opened, dist.ReduceOp.MIN)
        finally:
            if file >= 0:
                os.close(file)
        return None if memory is None or not opened else cls(memory, rank, count, capacity)

    def add(self, values: torch.Tensor) -> None:
        """Put the sum over all workers in the place of values, of which all workers have as many; its bits are the same on all."""
        half = (self._number + 1) % 2
        places = self._views.get((half, values.dtype, values.numel())) or self._viewed(half, values)
        self._number += 1
        flat = values.view(-1)
        places[self._rank].copy_(flat)
        self._counters[self._rank * _LINE_BYTES // 8] = self._number
        for worker in range(self._count):
            self._wait_for(worker)
        torch.add(places[0], places[1], out=flat)
        for place in places[2:]:
            flat += place

    def _viewed(self, half: int, values: torch.Tensor) -> list[torch.Tensor]:
        """The places of all workers in one of the two sets, as tensors like those values."""
        size = values.numel() * values.element_size()
        if size > self._capacity:
            raise RaydpMLError(f"a sum of {size} bytes does not fit into {self._capacity}")
        views = [place[:size].view(values.dtype) for place in self._places[half]]
        self._views[half, values.dtype, values.numel()] = views
        return views

    def _wait_for(self, worker: int) -> None:
        counters, place, number = self._counters, worker * _LINE_BYTES // 8, self._number
        looks, deadline = 0, 0.0
        while counters[place] < number:
            looks += 1
            if looks < _LOOKS:
                continue
            if looks < _YIELDS:
                os.sched_yield()
                continue
            deadline = deadline or time.monotonic() + _GIVE_UP_SECONDS
            if time.monotonic() > deadline:
                raise RaydpMLError(
                    f"the training worker of rank {worker} has not come to the same step within half an hour"
                )
            time.sleep(_REST_SECONDS)


def average(sums: SharedSums, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """The mean of gradients over the workers, as DistributedDataParallel calls a hook of its communication."""
    gradients = bucket.buffer()
    sums.add(gradients)
    found: torch.futures.Future[torch.Tensor] = torch.futures.Future()
    found.set_result(gradients.div_(dist.get_world_size()))
    return found


# DistributedDataParallel compares annotations with these objects, and in this file they are strings.
average.__annotations__ |= {"bucket": dist.GradBucket, "return": torch.futures.Future[torch.Tensor]}


def machine() -> tuple[str, int] | None:
    """What processes have in common that can open each other's files below /proc; None where there is no such way.

    Only processors of this kind let others see the values of a worker no later than its counter, without being told to.
    """
    if platform.machine() not in ("x86_64", "AMD64") or not hasattr(os, "memfd_create"):
        return None
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(), os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return None


def _mapped(path: str, size: int, token: bytes) -> mmap.mmap | None:
    """The memory behind a path, if it is the one with this token."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        memory = mmap.mmap(file, size)
    except (OSError, ValueError):
        return None
    finally:
        os.close(file)
    return memory if memory[: len(token)] == token else None
