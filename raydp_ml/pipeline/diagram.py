"""The steps of a pipeline in scikit-learn's HTML diagram."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raydp_ml.pipeline.steps import NamedStep, step_of

__all__ = ["diagram_of"]


def diagram_of(steps: Sequence[NamedStep]) -> Any:
    """What scikit-learn draws for a pipeline.

    Parameters
    ----------
    steps : sequence of (name, step)
        Checked steps, fitted or not.

    Returns
    -------
    sklearn.utils._repr_html.estimator._VisualBlock
        The steps one below the other.
    """
    try:
        from sklearn.utils._repr_html.estimator import _VisualBlock
    except ImportError:  # scikit-learn before 1.8 has it in another module
        from sklearn.utils._estimator_html_repr import _VisualBlock

    blocks, titles, details = [], [], []
    for name, value in steps:
        step = step_of(value)
        title, detail = step.describe()
        titles.append(f"{name}: {title}")
        details.append(detail)
        blocks.append(
            value if step.draws_itself else _VisualBlock("single", value, names=titles[-1], name_details=detail)
        )
    return _VisualBlock("serial", blocks, names=titles, name_details=details, dash_wrapped=False)
