"""Murmur3 as Spark uses it, and the stages that hash: words to counts, and columns to elements of a vector."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydp_ml.serving.columns import LocalFrame, SparseVectors, row_numbers, sparse_from_entries
from raydp_ml.serving.java_text import java_strings
from raydp_ml.serving.stage import ColumnStage, JoiningStage

__all__ = ["HashColumns", "HashWords", "murmur3"]

_SEED = 42
_WORD = 0xFFFFFFFF


@lru_cache(maxsize=65536)
def murmur3(text: str) -> int:
    """MurmurHash3 (x86, 32 bits) of a text's UTF-8 bytes, with Spark's seed, as a signed number.

    Spark's HashingTF and FeatureHasher have used the original algorithm since 3.0 (SPARK-23469). A HashingTF that an older version
    saved goes on hashing the last bytes of a text in another way.

    Parameters
    ----------
    text : str
        A word, or ``column=value``.

    Examples
    --------
    >>> murmur3("spark") % 262144
    173558
    """
    data = text.encode("utf-8", "surrogatepass")
    hashed = _SEED
    whole = len(data) - len(data) % 4
    for start in range(0, whole, 4):
        hashed ^= _mixed(int.from_bytes(data[start : start + 4], "little"))
        hashed = ((hashed << 13 | hashed >> 19) * 5 + 0xE6546B64) & _WORD
    if whole < len(data):
        hashed ^= _mixed(int.from_bytes(data[whole:], "little"))
    hashed ^= len(data)
    hashed = (hashed ^ hashed >> 16) * 0x85EBCA6B & _WORD
    hashed = (hashed ^ hashed >> 13) * 0xC2B2AE35 & _WORD
    hashed ^= hashed >> 16
    return hashed - (1 << 32) if hashed >> 31 else hashed


def _mixed(block: int) -> int:
    block = block * 0xCC9E2D51 & _WORD
    block = (block << 15 | block >> 17) & _WORD
    return block * 0x1B873593 & _WORD


@dataclass(frozen=True)
class HashWords(ColumnStage):
    """Lists of words to how often each place of a vector is hit by their hashes.

    Attributes
    ----------
    input_column, output_column : str
        A column of lists of strings, and one of vectors.
    size : int
        Length of the vectors.
    binary : bool
        Every place that is hit counts 1.
    """

    size: int
    binary: bool

    def transform(self, frame: LocalFrame) -> LocalFrame:
        starts, words = frame.tokens(self.input_column)
        coded = words.dictionary_encode()
        places = np.array([murmur3(word) % self.size for word in coded.dictionary.to_pylist()] + [_SEED % self.size])
        # Spark hashes a null to the seed; it is the last of the places.
        index = places[pc.fill_null(coded.indices, len(places) - 1).to_numpy(zero_copy_only=False)]
        counts = sparse_from_entries(frame.rows, self.size, row_numbers(starts), index, np.ones(len(index)))
        if self.binary:
            counts = SparseVectors(self.size, counts.starts, counts.indices, np.ones(len(counts.values)))
        return frame.with_columns({self.output_column: counts})


@dataclass(frozen=True)
class HashColumns(JoiningStage):
    """Columns to elements of one vector: a number at the hash of its column's name, a 1 at the hash of ``column=value``.

    Attributes
    ----------
    input_columns : tuple of str
        Columns of numbers, strings or booleans.
    output_column : str
        A column of vectors.
    size : int
        Length of the vectors.
    categorical : tuple of str
        Columns of numbers that are taken as names.
    """

    size: int
    categorical: tuple[str, ...]

    def transform(self, frame: LocalFrame) -> LocalFrame:
        rows, places, values = [], [], []
        for name in self.input_columns:
            array = frame.array(name)
            there = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False))
            rows.append(there)
            if self._is_category(name, array.type):
                coded = java_strings(name, array).drop_null().dictionary_encode()
                hashes = [murmur3(f"{name}={value}") % self.size for value in coded.dictionary.to_pylist()]
                places.append(np.array(hashes, dtype=np.int64)[coded.indices.to_numpy(zero_copy_only=False)])
                values.append(np.ones(len(there)))
            else:
                places.append(np.full(len(there), murmur3(name) % self.size))
                values.append(frame.numbers(name)[0][there])
        hashed = sparse_from_entries(
            frame.rows, self.size, np.concatenate(rows), np.concatenate(places), np.concatenate(values)
        )
        return frame.with_columns({self.output_column: hashed})

    def _is_category(self, name: str, kind: pa.DataType) -> bool:
        is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind)
        return is_text or name in self.categorical
