"""Which staged partitions make one block, and which blocks one task makes, so that a thousand tiny partitions cost few tasks."""

from __future__ import annotations

from raydp_ml.exchange.blocks import BlockSpec, Piece, StagedPartition


class BlockPlanner:
    """Takes partitions in the order in which they end and gives groups of files out, each of which makes one block.

    Partitions smaller than ``smallest`` bytes wait until a run of neighbours is large enough, so that the rows keep their order.

    Parameters
    ----------
    smallest : int
        Bytes; 0 gives every partition a block of its own.

    Examples
    --------
    >>> planner = BlockPlanner(smallest=0)
    >>> planner.finish()
    []
    """

    def __init__(self, smallest: int) -> None:
        self._smallest = smallest
        self._partitions: dict[int, StagedPartition] = {}
        self._end_of: dict[int, int] = {}
        self._start_of: dict[int, int] = {}
        self._bytes: dict[int, int] = {}

    def add(self, partition: StagedPartition) -> list[list[Piece]]:
        """A partition ended.

        Returns
        -------
        list of list of Piece
            Blocks that can be made now.
        """
        size = sum(file.bytes for file in partition.files)
        if len(partition.files) > 1 or size >= self._smallest:
            return [[Piece(partition, i)] for i in range(len(partition.files))]
        number = partition.partition
        self._partitions[number] = partition
        start, end = number, number
        if number - 1 in self._start_of:
            start = self._start_of.pop(number - 1)
            size += self._bytes.pop(start)
            del self._end_of[start]
        if number + 1 in self._end_of:
            end = self._end_of.pop(number + 1)
            size += self._bytes.pop(number + 1)
            del self._start_of[end]
        if size >= self._smallest:
            return [self._take(start, end)]
        self._end_of[start], self._start_of[end], self._bytes[start] = end, start, size
        return []

    def _take(self, start: int, end: int) -> list[Piece]:
        run = [self._partitions.pop(number) for number in range(start, end + 1)]
        return [Piece(partition, i) for partition in run for i in range(len(partition.files))]

    def finish(self) -> list[list[Piece]]:
        """All partitions have ended: the blocks of what still waits, without those that would be empty."""
        blocks = [self._take(start, end) for start, end in sorted(self._end_of.items())]
        self._end_of, self._start_of, self._bytes = {}, {}, {}
        return [pieces for pieces in blocks if pieces]


class TaskPlanner:
    """Takes blocks in the order in which their files are there and gives groups out, each of which one task makes.

    A task takes Ray's processes about 20 ms of CPU, in which 20 MB are copied.

    Parameters
    ----------
    enough : int
        Bytes of files on one node for which a task is worth while.
    """

    def __init__(self, enough: int) -> None:
        self._enough = enough
        self._waiting: dict[str | None, list[BlockSpec]] = {}

    def add(self, block: BlockSpec) -> list[list[BlockSpec]]:
        """The files of a block are there.

        Returns
        -------
        list of list of BlockSpec
            Blocks that shall be made now.
        """
        together = self._waiting.setdefault(block.node_id, [])
        together.append(block)
        if sum(waiting.bytes for waiting in together) < self._enough:
            return []
        return [self._waiting.pop(block.node_id)]

    def finish(self) -> list[list[BlockSpec]]:
        """There are no more blocks: those that wait, of each node."""
        groups = list(self._waiting.values())
        self._waiting = {}
        return groups
