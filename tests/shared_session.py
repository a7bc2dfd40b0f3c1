"""A Spark session that several test modules in a row use: starting and warming one takes longer than most tests."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import pyspark.sql

__all__ = ["end_what_was_left", "leave", "pytest_collection_modifyitems", "pytest_runtest_setup"]

# Modules that take the session of their folder, and the folder whose session runs on behind its last user.
_TAKERS = pytest.StashKey[set[Path]]()
_LEFT = pytest.StashKey[Path | None]()
# Folders whose modules look at what a session is like when it is new.
_NEW_SESSIONS = {"session"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In each folder, have the modules that take its session run first, one after the other."""
    modules = [(path, list(group)) for path, group in groupby(items, lambda item: item.path)]
    takers = config.stash[_TAKERS] = {path for path, group in modules if _takes_it(group)}
    folders = list(dict.fromkeys(item.path.parent for item in items))
    items.sort(key=lambda item: (folders.index(item.path.parent), item.path not in takers))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """End a session that was left, before a test that has another or wants the Ray cluster for itself."""
    folder = item.config.stash.get(_LEFT, None)
    if folder is None or (
        item.path.parent == folder and (item.path in item.config.stash[_TAKERS] or not _uses(item, "ray_cluster"))
    ):
        return
    end_what_was_left(item.config)


def leave(spark: pyspark.sql.SparkSession, request: pytest.FixtureRequest) -> None:
    """Be through with the session of a folder: the next module goes on with it, without what was cached in it."""
    import raydp_ml

    # A test may have stopped it.
    if raydp_ml.spark_info() and request.path in request.config.stash[_TAKERS]:
        spark.catalog.clearCache()
        request.config.stash[_LEFT] = request.path.parent
    else:
        end_what_was_left(request.config)


def end_what_was_left(config: pytest.Config) -> None:
    """Stop the session, if there is one."""
    import raydp_ml

    config.stash[_LEFT] = None
    raydp_ml.stop_spark()


def _takes_it(items: list[pytest.Item]) -> bool:
    module = items[0].getparent(pytest.Module)
    its_own = module is not None and hasattr(module.obj, "spark")
    used = any(_uses(item, "spark", "ray_cluster") for item in items)
    return used and not its_own and items[0].path.parent.name not in _NEW_SESSIONS


def _uses(item: pytest.Item, *fixtures: str) -> bool:
    return set(fixtures) <= set(getattr(item, "fixturenames", ()))
