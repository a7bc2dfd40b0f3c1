"""Rows as they train: labels as class numbers, class weights multiplied into the weights; in memory, or written to disk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.protocol import Rows
from raydp_ml.estimators.shards import Shard
from raydp_ml.estimators.streamed import Spool, SpooledRows
from raydp_ml.frames.arrays import Arrays

__all__ = ["Encoding", "encode_labels"]


@dataclass(frozen=True)
class Encoding:
    """What labels and weights of the rows of one side become; ``side`` is how messages call it."""

    side: str
    classes: np.ndarray | None = None
    class_weight: np.ndarray | None = None

    def of(self, arrays: Arrays) -> Rows:
        """Rows in memory.

        Parameters
        ----------
        arrays : Arrays
            The rows as they came.
        """
        label, weight = arrays.label, arrays.weight
        if label is None:
            raise InvalidValueError(f"{self.side} has no label")
        if self.classes is not None:
            label = encode_labels(label, self.classes, self.side)
            if self.class_weight is not None:
                by_class = self.class_weight[label].astype(np.float32)
                weight = by_class if weight is None else weight * by_class
        else:
            label = np.asarray(label, np.float64)
        return Rows(arrays.X, label, weight, arrays.qid, arrays.base_margin)

    def written(self, shard: Shard) -> tuple[SpooledRows, list[int]]:
        """Rows on disk, of which one block after the other is in memory.

        Parameters
        ----------
        shard : Shard
            The rows as they came.

        Returns
        -------
        rows : SpooledRows
            How to read them.
        files : list of int
            Descriptors of their files.
        """
        spool = Spool(shard.rows)
        try:
            for part in shard.stream():
                if len(part):
                    spool.add(self.of(part))
            return spool.finish()
        finally:
            spool.close()


def encode_labels(label: np.ndarray, classes: np.ndarray, what: str) -> np.ndarray:
    """Class numbers of labels.

    Examples
    --------
    >>> encode_labels(np.array(["b", "a"]), np.array(["a", "b"]), "y").tolist()
    [1, 0]
    """
    places = np.clip(np.searchsorted(classes, label), 0, len(classes) - 1)
    wrong = classes[places] != label
    if np.any(wrong):
        unseen = sorted({str(item) for item in np.asarray(label)[wrong][:1000]})[:5]
        raise InvalidValueError(f"{what} has labels that are not among the classes {classes.tolist()[:20]}: {unseen}")
    return places.astype(np.int64)
