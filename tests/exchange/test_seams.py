"""The private parts of Ray that the exchange uses: this fails clearly when one of them moves."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import ray
from ray.data.block import BlockMetadata

from raydp_ml.exchange.blocks import BlockInfo
from raydp_ml.exchange.ray_seam import blocks_of, dataset_from_blocks, fullest_store, referenced_objects
from tests.waiting import until


@pytest.fixture(scope="module", autouse=True)
def _ray(ray_cluster: None) -> None:
    pass


def test_a_dataset_over_known_blocks_starts_no_task() -> None:
    tables = [pa.table({"a": [1, 2]}), pa.table({"a": [3]})]
    refs = [ray.put(table) for table in tables]
    dataset = dataset_from_blocks(refs, [BlockInfo(t.num_rows, t.nbytes) for t in tables], tables[0].schema)
    assert dataset.num_blocks() == 2
    assert dataset.count() == 3
    assert dataset.schema().names == ["a"]
    found = [
        (ref, metadata.num_rows)
        for bundle in dataset.iter_internal_ref_bundles()
        for ref, metadata in blocks_of(bundle)
    ]
    assert found == [(refs[0], 2), (refs[1], 1)]
    assert dataset.take_all() == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_what_ray_knows_of_a_block_has_no_statistics_of_columns() -> None:
    """With them a filter could skip blocks (RayBlockScan)."""
    known = {field.name for field in dataclasses.fields(BlockMetadata)}
    assert known == {"num_rows", "size_bytes", "exec_stats", "task_exec_stats", "input_files"}


def test_references_are_seen_until_the_last_one_goes() -> None:
    ref = ray.put(pa.table({"a": [1]}))
    name = ref.hex()
    assert name in referenced_objects()
    del ref
    assert name not in referenced_objects()


def test_how_full_the_object_store_is() -> None:
    size = ray.cluster_resources()["object_store_memory"]
    before = fullest_store()
    held = ray.put(pa.table({"a": np.zeros(int(size / 20), np.int8)}))
    until(lambda: 0.04 < fullest_store() - before < 0.06, 20, lambda: f"{fullest_store()}, {before} before")
    del held
    until(lambda: abs(fullest_store() - before) < 0.01, 20, lambda: f"{fullest_store()}, {before} before")
