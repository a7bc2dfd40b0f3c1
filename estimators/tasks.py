"""What the tasks have in common: probabilities or none, scikit-learn's tags, and how several 0/1 labels become predictions."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["CUSTOM", "MULTILABEL", "above_half", "classes_of_labels", "predicts_probabilities", "with_tags_of_task"]

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


def with_tags_of_task(tags: Any, task: str | None) -> Any:
    """scikit-learn's tags of an estimator, with what its task says of it.

    Parameters
    ----------
    tags : sklearn.utils.Tags
        The tags, which are changed.
    task : str or None
        The task; scikit-learn has no word for ranking and the like.

    Examples
    --------
    >>> from sklearn.base import BaseEstimator
    >>> with_tags_of_task(BaseEstimator().__sklearn_tags__(), "multilabel").classifier_tags.multi_label
    True
    """
    from sklearn.utils import ClassifierTags, RegressorTags

    if predicts_probabilities(task):
        tags.estimator_type, tags.classifier_tags = "classifier", ClassifierTags(multi_label=task == MULTILABEL)
    elif task == "regression":
        tags.estimator_type, tags.regressor_tags = "regressor", RegressorTags()
    return tags


def classes_of_labels(labels: int) -> list[np.ndarray]:
    """The classes of several labels that are 0 or 1 each, in scikit-learn's form: a list with those of each label.

    Its scorers tell by this form that columns of ``predict_proba`` are labels, also where there are two of them.

    Examples
    --------
    >>> classes_of_labels(2)
    [array([0, 1]), array([0, 1])]
    """
    return [np.array([0, 1]) for _ in range(labels)]


def above_half(probabilities: np.ndarray) -> np.ndarray:
    """The labels that are more likely 1 than 0.

    Examples
    --------
    >>> above_half(np.array([[0.2, 0.9]])).tolist()
    [[0, 1]]
    """
    return (probabilities > 0.5).astype(np.int64)
