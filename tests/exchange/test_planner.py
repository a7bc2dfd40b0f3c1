"""Which staged partitions share a block, and which blocks a task: every row once and in order, however partitions end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raydp_ml.exchange.blocks import BlockSpec, Piece, StagedFile, StagedPartition
from raydp_ml.exchange.planner import BlockPlanner, TaskPlanner


def staged(number: int, sizes: list[int]) -> StagedPartition:
    files = tuple(StagedFile(f"{number}-{i}", size, size) for i, size in enumerate(sizes))
    return StagedPartition(number, "0", files, sum(sizes), "", "")


@given(st.data())
def test_every_file_once_and_in_order(data: st.DataObject) -> None:
    partitions = data.draw(st.lists(st.lists(st.integers(1, 60), max_size=3), max_size=12))
    smallest = data.draw(st.sampled_from([0, 30, 100, 1000]))
    order = data.draw(st.permutations(range(len(partitions))))
    planner = BlockPlanner(smallest)
    blocks = [block for number in order for block in planner.add(staged(number, partitions[number]))]
    blocks += planner.finish()
    blocks.sort(key=lambda pieces: (pieces[0].source.partition, pieces[0].index))
    paths = [piece.file.path for pieces in blocks for piece in pieces]
    assert paths == [f"{number}-{i}" for number, sizes in enumerate(partitions) for i in range(len(sizes))]
    assert all(pieces for pieces in blocks)


def test_small_neighbours_share_a_block_once_they_are_large_enough() -> None:
    planner = BlockPlanner(smallest=100)
    assert planner.add(staged(0, [40])) == []
    assert planner.add(staged(2, [40])) == []
    (block,) = planner.add(staged(1, [40]))
    assert [piece.source.partition for piece in block] == [0, 1, 2]
    assert planner.finish() == []


def test_ten_thousand_tiny_partitions_make_few_blocks() -> None:
    planner = BlockPlanner(smallest=1 << 20)
    blocks = [block for number in range(10_000) for block in planner.add(staged(number, [1000]))]
    blocks += planner.finish()
    assert len(blocks) == 10  # 1 MiB / 1000 bytes is 1049 partitions


def test_no_merging_when_each_partition_shall_be_a_block() -> None:
    planner = BlockPlanner(smallest=0)
    assert [len(planner.add(staged(number, [10]))) for number in range(3)] == [1, 1, 1]


def block(number: int, size: int, node: str) -> BlockSpec:
    return BlockSpec("export", (Piece(staged(number, [size]).at(node, None), 0),), {}, (), 1.0)


def test_small_blocks_of_a_node_are_made_by_one_task() -> None:
    planner = TaskPlanner(enough=100)
    first, other, second, third, large = (
        block(number, size, node)
        for number, (size, node) in enumerate([(40, "a"), (60, "b"), (40, "a"), (20, "a"), (500, "a")])
    )
    assert [planner.add(one) for one in (first, other, second)] == [[], [], []]
    assert planner.add(third) == [[first, second, third]]
    assert planner.add(large) == [[large]]
    assert planner.finish() == [[other]]
    assert planner.finish() == []
