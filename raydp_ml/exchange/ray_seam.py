"""The private parts of Ray that the exchange needs, in one place.

Seen in Ray 2.60; tests/exchange/test_seams.py watches them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

_STORE = "object_store_memory"

if TYPE_CHECKING:
    import ray
    import ray.data

    from raydp_ml.exchange.blocks import BlockInfo


def dataset_from_blocks(
    refs: list[ray.ObjectRef], infos: list[BlockInfo], schema: pa.Schema
) -> ray.data.MaterializedDataset:
    """A Dataset over blocks whose sizes are known.

    ``ray.data.from_arrow_refs`` starts a task with one CPU for each block to find that out, and hangs when Spark holds all CPUs.

    Parameters
    ----------
    refs : list of ObjectRef
        Arrow tables.
    infos : list of BlockInfo
        Their sizes.
    schema : pyarrow.Schema
        The schema they share.
    """
    from ray.data._internal.logical.interfaces import LogicalPlan
    from ray.data._internal.logical.operators import FromBlocks
    from ray.data._internal.stats import DatasetStats
    from ray.data.block import BlockMetadataWithSchema
    from ray.data.context import DataContext
    from ray.data.dataset import MaterializedDataset

    metadata = [
        BlockMetadataWithSchema(
            num_rows=info.rows, size_bytes=info.bytes, exec_stats=None, input_files=None, schema=schema
        )
        for info in infos
    ]
    context = DataContext.get_current().copy()
    stats = DatasetStats(metadata={"FromSpark": metadata}, parent=None)
    return MaterializedDataset(LogicalPlan(FromBlocks(refs, metadata), context), context, stats)


def read_without_cpu(source: ray.data.Datasource, blocks: int, concurrency: int) -> ray.data.Dataset:
    """A lazy Dataset whose read tasks take no CPU slot, because Spark may hold all of them.

    Parameters
    ----------
    source : ray.data.Datasource
        What is read.
    blocks : int
        Number of read tasks.
    concurrency : int
        How many of them run at the same time.
    """
    import inspect

    import ray.data

    # Ray 2.60 names the option; before it was one of the remote arguments.
    named = "num_cpus" in inspect.signature(ray.data.read_datasource).parameters
    free: dict[str, Any] = {"num_cpus": 0} if named else {"ray_remote_args": {"num_cpus": 0}}
    return ray.data.read_datasource(source, override_num_blocks=blocks, concurrency=concurrency, **free)


def bundles_of(ds: ray.data.Dataset) -> Iterator[Any]:
    """Execute a Dataset; the schemas of its bundles together name every column of blocks that differ.

    Unless told so, Ray gives the schema of the first block to all that follow.
    """
    enforced = ds.context.enforce_schemas
    ds.context.enforce_schemas = True
    try:
        yield from ds.iter_internal_ref_bundles()
    finally:
        ds.context.enforce_schemas = enforced


def blocks_of(bundle: Any) -> Iterator[tuple[ray.ObjectRef, Any]]:
    """References and metadata of the blocks in a bundle of ``Dataset.iter_internal_ref_bundles``.

    Before Ray 2.55 or so an entry was a pair; in 2.60 it is a BlockEntry.
    """
    for entry in bundle.blocks:
        yield entry if isinstance(entry, tuple) else (entry.ref, entry.metadata)


def referenced_objects() -> set[str]:
    """Ids (hex) of the objects that this process owns or borrows and that somebody still refers to, lineage included."""
    from ray._private.worker import global_worker

    return {object_id.decode() for object_id in global_worker.core_worker.get_all_reference_counts()}


def fullest_store() -> float:
    """How full the fullest object store of the cluster is, 0 to 1. What was spilled does not count."""
    from ray._private.state import available_resources_per_node, total_resources_per_node

    # A node leaves out a resource of which it has none left.
    free = {node: resources.get(_STORE, 0.0) for node, resources in available_resources_per_node().items()}
    sizes = {node: resources.get(_STORE, 0.0) for node, resources in total_resources_per_node().items()}
    return max((1 - free[node] / size for node, size in sizes.items() if size and node in free), default=0.0)


def is_client() -> bool:
    """Whether this process is connected as a Ray Client (``ray.init("ray://...")``), and so holds no part of the cluster."""
    from ray.util.client import ray as client

    return bool(client.is_connected())


def client_id() -> str:
    """The name that the client server knows this process's connection by."""
    from ray.util.client import ray as client

    return str(client.worker._client_id)
