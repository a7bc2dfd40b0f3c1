"""xgboost's collective on Ray Train workers, without its greeting. Imports Ray and xgboost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import xgboost
from ray.train.xgboost import XGBoostConfig

__all__ = ["QuietXGBoostConfig"]


@dataclass
class QuietXGBoostConfig(XGBoostConfig):
    """Ray's own configuration, but workers do not print a line as they join."""

    @property
    def train_func_context(self) -> Callable[[], AbstractContextManager[Any]]:
        """What training runs in."""
        joined = super().train_func_context

        @contextmanager
        def quietly() -> Iterator[None]:
            verbosity = xgboost.get_config()["verbosity"]
            xgboost.set_config(verbosity=0)
            with joined():
                xgboost.set_config(verbosity=verbosity)
                yield

        return quietly
