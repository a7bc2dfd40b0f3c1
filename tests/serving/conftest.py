"""A Spark session in this process alone: local stages are read from it, and know nothing of Ray."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.local_spark import local_session

if TYPE_CHECKING:
    import pyspark.sql


@pytest.fixture(scope="module")
def spark() -> Iterator[pyspark.sql.SparkSession]:
    with local_session() as session:
        yield session
