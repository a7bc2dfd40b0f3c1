"""Sums over workers through shared memory: the sums of torch.distributed, in processes that torch starts."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from raydp_ml import RaydpMLError
from raydp_ml.estimators.torch import shared_sums
from raydp_ml.estimators.torch.shared_sums import SharedSums, average

WORKERS = 3


def in_workers(rank: int, port: int, folder: str, elsewhere: bool) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=WORKERS)
    if elsewhere and rank == 1:
        shared_sums.machine = lambda: ("another", 0)
    torch.save(measured(rank), Path(folder, f"{rank}.pt"))
    dist.barrier()
    dist.destroy_process_group()


def measured(rank: int) -> dict[str, Any]:
    sums = SharedSums.open(1000)
    assert SharedSums.for_gradients(nn.Linear(2000, 2000)) is None
    assert SharedSums.for_gradients(nn.Embedding(4, 2, sparse=True)) is None
    if sums is None:
        return {"shared": False}
    generator = torch.Generator().manual_seed(rank)
    differences = []
    for number in range(200):
        kind = (torch.float32, torch.float64, torch.bfloat16)[number % 3]
        own = torch.randn(1 + number % 100, generator=generator).to(kind)
        theirs = own.double()
        dist.all_reduce(theirs)
        sums.add(own)
        # Bfloat16 has eight bits.
        differences.append(float((own.double() - theirs).abs().max()) / (0.1 if kind is torch.bfloat16 else 1e-5))
    with pytest.raises(RaydpMLError, match="a sum of 4004 bytes does not fit"):
        sums.add(torch.zeros(1001))
    return {"shared": True, "difference": max(differences), "weights": [trained(rank, hook) for hook in (False, True)]}


def trained(rank: int, hook: bool) -> torch.Tensor:
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)))
    if hook:
        sums = SharedSums.for_gradients(model.module)
        assert sums is not None
        model.register_comm_hook(sums, average)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rows = torch.randn(20, 16, 4, generator=torch.Generator().manual_seed(rank))
    for batch in rows:
        optimizer.zero_grad()
        (model(batch)[:, 0] - batch.sum(dim=1)).square().mean().backward()
        optimizer.step()
    return torch.cat([each.detach().flatten() for each in model.parameters()])


@pytest.mark.parametrize("elsewhere", [False, True])
def test_sums_are_those_of_torch_where_workers_share_a_machine(tmp_path: Path, elsewhere: bool) -> None:
    if shared_sums.machine() is None:
        pytest.skip("processes here share no memory in this way")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(in_workers, (port, str(tmp_path), elsewhere), nprocs=WORKERS)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(WORKERS)]
    assert [each["shared"] for each in found] == [not elsewhere] * WORKERS
    if elsewhere:
        return
    assert max(each["difference"] for each in found) < 1
    plain, shared = found[0]["weights"]
    assert not torch.equal(plain, torch.zeros_like(plain)) and torch.allclose(plain, shared, atol=1e-5)
    for other in found[1:]:
        assert torch.equal(other["weights"][1], shared)  # bit by bit
