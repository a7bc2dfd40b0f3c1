"""Stages on text: tokenizers, stop words, n-grams, counts of a vocabulary, averages of word vectors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydp_ml.serving.columns import DenseVectors, LocalFrame, row_numbers, sparse_from_entries
from raydp_ml.serving.stage import ColumnStage, PairsStage

__all__ = ["AverageWords", "CountWords", "JoinWords", "RemoveWords", "SplitText", "SplitTextByPattern"]

# What Java's \s matches. Python's matches more characters of Unicode.
_SPACE = re.compile(r"[ \t\n\x0b\f\r]")


@dataclass(frozen=True)
class SplitText(ColumnStage):
    """Texts in lower case, split at each white space, as Spark's Tokenizer does it."""

    def transform(self, frame: LocalFrame) -> LocalFrame:
        words = [_java_split(_SPACE, text.lower()) for text in frame.strings(self.input_column)]
        return frame.with_columns({self.output_column: pa.array(words, type=pa.list_(pa.string()))})


def _java_split(expression: re.Pattern[str], text: str) -> list[str]:
    """Java's split: empty strings at the end are left out, but a text without a match is one word even if it is empty."""
    words = expression.split(text)
    if len(words) > 1:
        while words and not words[-1]:
            words.pop()
    return words


@dataclass(frozen=True)
class SplitTextByPattern(ColumnStage):
    """Texts split at a pattern, or the parts that match it, as Spark's RegexTokenizer does it.

    Attributes
    ----------
    input_column, output_column : str
        A column of texts, and one of lists of words.
    pattern : str
        A regular expression that means the same in Java and in Python, see ``raydp_ml.serving.extraction``.
    gaps : bool
        The pattern matches what is between words, not words.
    shortest : int
        Words of fewer characters are left out.
    lower : bool
        Texts become lower case first.
    """

    pattern: str
    gaps: bool
    shortest: int
    lower: bool

    def transform(self, frame: LocalFrame) -> LocalFrame:
        # Java's \w, \d and \s are those of ASCII.
        expression = re.compile(self.pattern, re.ASCII)
        words = []
        for text in frame.strings(self.input_column):
            text = text.lower() if self.lower else text
            found = _java_split(expression, text) if self.gaps else expression.findall(text)
            # Java counts the length of a text in units of UTF-16.
            words.append([word for word in found if len(word.encode("utf-16-le")) // 2 >= self.shortest])
        return frame.with_columns({self.output_column: pa.array(words, type=pa.list_(pa.string()))})


@dataclass(frozen=True)
class RemoveWords(PairsStage):
    """Lists of words without some words.

    Attributes
    ----------
    input_columns, output_columns : tuple of str
        In pairs.
    words : tuple of str
        What is left out.
    case_sensitive : bool
        Whether words that differ in case are others.
    """

    words: tuple[str, ...]
    case_sensitive: bool

    @cached_property
    def _left_out(self) -> frozenset[str]:
        return frozenset(self.words if self.case_sensitive else map(str.lower, self.words))

    def transform(self, frame: LocalFrame) -> LocalFrame:
        made = {}
        for name, output in zip(self.input_columns, self.output_columns, strict=True):
            starts, words = frame.tokens(name)
            coded = words.dictionary_encode()
            stays = np.array([self._stays(word) for word in coded.dictionary.to_pylist()] + [True])
            # A null is no word that is left out; it is the last.
            keep = stays[pc.fill_null(coded.indices, len(stays) - 1).to_numpy(zero_copy_only=False)]
            ends = np.concatenate([[0], np.cumsum(keep)])[starts]
            made[output] = pa.ListArray.from_arrays(pa.array(ends, type=pa.int32()), words.filter(pa.array(keep)))
        return frame.with_columns(made)

    def _stays(self, word: str) -> bool:
        return (word if self.case_sensitive else word.lower()) not in self._left_out


@dataclass(frozen=True)
class JoinWords(ColumnStage):
    """Every ``n`` words in a row, joined by a space."""

    n: int

    def transform(self, frame: LocalFrame) -> LocalFrame:
        starts, flat = frame.tokens(self.input_column)
        words = ["null" if word is None else word for word in flat.to_pylist()]  # Java joins null as this word
        joined = [
            [" ".join(words[at : at + self.n]) for at in range(begin, end - self.n + 1)]
            for begin, end in pairwise(starts)
        ]
        return frame.with_columns({self.output_column: pa.array(joined, type=pa.list_(pa.string()))})


@dataclass(frozen=True)
class CountWords(ColumnStage):
    """Lists of words to how often each word of a vocabulary is there.

    Attributes
    ----------
    input_column, output_column : str
        A column of lists of words, and one of vectors.
    vocabulary : tuple of str
        The word of each element.
    least : float
        Words that are there less often are not counted: a number of times, or below 1 a share of all words of the row.
    binary : bool
        Every word that is there counts 1.
    """

    vocabulary: tuple[str, ...]
    least: float
    binary: bool

    @cached_property
    def _vocabulary(self) -> pa.Array:
        return pa.array(self.vocabulary, type=pa.string())

    def transform(self, frame: LocalFrame) -> LocalFrame:
        starts, words = frame.tokens(self.input_column)
        index = pc.fill_null(pc.index_in(words, value_set=self._vocabulary), -1).to_numpy(zero_copy_only=False)
        known = index >= 0
        row = row_numbers(starts)[known]
        size = len(self.vocabulary)
        counts = sparse_from_entries(frame.rows, size, row, index[known], np.ones(len(row)))
        least = np.full(frame.rows, self.least) if self.least >= 1 else np.diff(starts) * self.least
        row = counts.row_of_each()
        enough = counts.values >= least[row]
        values = np.ones(len(row)) if self.binary else counts.values
        counted = sparse_from_entries(frame.rows, size, row[enough], counts.indices[enough], values[enough])
        return frame.with_columns({self.output_column: counted})


@dataclass(frozen=True)
class AverageWords(ColumnStage):
    """Lists of words to the sum of the words' vectors, divided by the number of all words, known or not."""

    words: tuple[str, ...]
    matrix: np.ndarray

    @cached_property
    def _words(self) -> pa.Array:
        return pa.array(self.words, type=pa.string())

    def transform(self, frame: LocalFrame) -> LocalFrame:
        starts, words = frame.tokens(self.input_column)
        index = pc.fill_null(pc.index_in(words, value_set=self._words), -1).to_numpy(zero_copy_only=False)
        known = index >= 0
        total = np.zeros((frame.rows, self.matrix.shape[1]))
        np.add.at(total, row_numbers(starts)[known], self.matrix[index[known]])
        average = total / np.maximum(np.diff(starts), 1)[:, None]
        return frame.with_columns({self.output_column: DenseVectors(average)})
