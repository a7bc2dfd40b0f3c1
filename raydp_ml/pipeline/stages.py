"""What a search asks about steps: whether they learn, and whether rows stay apart in them."""

from __future__ import annotations

from typing import Any

from raydp_ml.pipeline.steps import FeatureStep, step_of

__all__ = ["is_row_wise", "learns"]


def learns(value: Any) -> bool:
    """Whether fitting a step looks at rows."""
    step = step_of(value)
    return isinstance(step, FeatureStep) and step.learns


def is_row_wise(value: Any) -> bool:
    """Whether a step certainly neither learns nor looks at more than one row, and keeps columns that it does not know."""
    step = step_of(value)
    return isinstance(step, FeatureStep) and step.row_wise
