"""What the tasks have in common: which ones predict probabilities, and how several 0/1 labels become predictions."""

from __future__ import annotations

import numpy as np

__all__ = ["CUSTOM", "MULTILABEL", "above_half", "predicts_probabilities"]

MULTILABEL = "multilabel"
"""The task in which a row has several labels, each 0 or 1."""

CUSTOM = "custom"
"""The task in which a function of the user says what is predicted, and nothing is known of it but its shape."""


def predicts_probabilities(task: str | None) -> bool:
    """Whether models of a task predict probabilities: those of classes, or of labels.

    Examples
    --------
    >>> predicts_probabilities("multilabel"), predicts_probabilities("regression")
    (True, False)
    """
    return task in ("classification", MULTILABEL)


def above_half(probabilities: np.ndarray) -> np.ndarray:
    """The labels that are more likely 1 than 0.

    Examples
    --------
    >>> above_half(np.array([[0.2, 0.9]])).tolist()
    [[0, 1]]
    """
    return (probabilities > 0.5).astype(np.int64)
