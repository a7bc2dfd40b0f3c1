"""Rows on a worker's disk as batches for Keras. Imports TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from raydp_ml.estimators.protocol import Rows
from raydp_ml.estimators.streamed import Passage, StreamedRows

__all__ = ["StreamedInputs", "streamed_batches"]


@dataclass(frozen=True)
class StreamedInputs:
    """Rows on disk, and what makes of rows in memory what ``fit`` takes: inputs, labels and, if there are any, weights."""

    rows: StreamedRows
    arrays: Callable[[Rows], tuple[Any, ...]]


def streamed_batches(source: StreamedInputs, sizes: np.ndarray, epochs: int, seed: int | None) -> tf.data.Dataset:
    """Batches of all epochs.

    Parameters
    ----------
    source : StreamedInputs
        The rows.
    sizes : numpy.ndarray of int
        How many rows each batch of an epoch has; where it is none, a row is repeated.
    epochs : int
        How many epochs there are.
    seed : int, optional
        Shuffles the rows, anew in each epoch.
    """

    def arrays(rows: Rows) -> tuple[Any, ...]:
        x, *others = source.arrays(rows)
        return (tuple(x) if isinstance(x, list) else x, *others)

    def generate() -> Iterator[tuple[Any, ...]]:
        for epoch in range(epochs):
            passage = Passage(source.rows, None if seed is None else (seed, epoch))
            for size in sizes:
                yield arrays(passage.take(int(size)) if size else source.rows.read([slice(0, 1)]))

    like = arrays(source.rows.read([slice(0, 1)]))
    signature = tf.nest.map_structure(lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype), like)
    return tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(tf.data.AUTOTUNE)
