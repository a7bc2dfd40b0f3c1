"""The helpers that RayDP programs import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyspark.sql

    from raydp_ml.frames.spark import SparkFrame

__all__ = [
    "convert_to_spark",
    "df_type_check",
    "divide_blocks",
    "get_node_address",
    "parse_memory_size",
    "random_split",
]


def df_type_check(df: Any) -> bool:
    """True for a Spark or pandas-on-Spark frame, an error for anything else.

    Parameters
    ----------
    df : object
        What may be a frame.

    Raises
    ------
    InvalidTypeError
        When it is none.
    """
    _opened(df)
    return True


def _opened(df: Any) -> SparkFrame:
    from raydp_ml.errors import InvalidTypeError
    from raydp_ml.frames.registry import open_frame
    from raydp_ml.frames.spark import SparkFrame

    frame = open_frame(df)
    if not isinstance(frame, SparkFrame):
        # RayDP's words, which programs and people look for.
        raise InvalidTypeError(
            f"The type: {type(df)} is not supported, only support pyspark.sql.DataFrame and pyspark.pandas.DataFrame"
        )
    return frame


def convert_to_spark(df: Any) -> tuple[pyspark.sql.DataFrame, bool]:
    """The Spark frame of a Spark or pandas-on-Spark frame, and whether it was a Spark frame already.

    Parameters
    ----------
    df : pyspark.sql.DataFrame or pyspark.pandas.DataFrame
        The frame.
    """
    plain = _opened(df).frame
    return plain, plain is df


def random_split(df: Any, weights: Sequence[float], seed: int | None = None) -> list[Any]:
    """Split the rows of a frame at random.

    Parameters
    ----------
    df : pyspark.sql.DataFrame or pyspark.pandas.DataFrame
        The frame.
    weights : sequence of float
        Share of each part; their sum need not be 1.
    seed : int, optional
        Makes the split repeatable.

    Returns
    -------
    list
        One frame per weight, of the kind of ``df``.
    """
    opened = _opened(df)
    return [opened.give_back(part) for part in opened.frame.randomSplit(list(weights), seed)]


def parse_memory_size(memory_size: str) -> int:
    """Bytes of a memory size.

    Parameters
    ----------
    memory_size : str
        ``"10"``, ``"10K"``, ``"10 mb"``, ``"1.5GB"``, ...; units are powers of 1024.

    Examples
    --------
    >>> parse_memory_size("10 MB")
    10485760
    """
    from raydp_ml.cluster.settings import parse_memory

    return parse_memory(memory_size, "memory_size")


def get_node_address() -> str:
    """IP address of the Ray node that this process runs on."""
    import ray

    return ray.util.get_node_ip_address()


def divide_blocks(
    blocks: Sequence[int], world_size: int, shuffle: bool = False, shuffle_seed: int | None = None
) -> dict[int, list[tuple[int, int]]]:
    """Give each of some workers the same number of rows, in pieces of blocks.

    Parameters
    ----------
    blocks : sequence of int
        Number of rows of each block.
    world_size : int
        Number of workers; at most that of blocks.
    shuffle : bool, default False
        Hand the blocks out in a random order.
    shuffle_seed : int, optional
        Makes that order another one; the order is repeatable in any case.

    Returns
    -------
    dict
        For each rank its pieces, each the index of a block and how many of its first rows. Where the rows do not come out
        even, some are given twice.

    Raises
    ------
    InvalidValueError
        When there are fewer blocks than workers.

    Examples
    --------
    >>> divide_blocks([3, 1, 2], 2)
    {0: [(0, 3)], 1: [(1, 1), (2, 2)]}
    """
    import random

    from raydp_ml.errors import InvalidValueError

    if len(blocks) < world_size:
        raise InvalidValueError(f"blocks has {len(blocks)} blocks, which is fewer than world_size={world_size}")
    share = -(-sum(blocks) // world_size)
    order = list(range(len(blocks)))
    if shuffle:
        random.Random(shuffle_seed or 0).shuffle(order)
    pieces: dict[int, list[tuple[int, int]]] = {}
    position = 0
    for rank in range(world_size):
        pieces[rank] = []
        missing = share
        while missing > 0:
            index = order[position % len(order)]
            taken = min(blocks[index], missing)
            pieces[rank].append((index, taken))
            missing -= taken
            position += 1
    return pieces
