"""The raydp namespace: lazy, thin, and with RayDP's names, argument order and defaults."""

from __future__ import annotations

import doctest
import inspect
import re
import subprocess
import sys
from importlib import import_module

import pytest

from raydp import utils


def test_import_raydp_imports_no_library() -> None:
    program = (
        "import sys, raydp\n"
        "heavy = {'pyspark', 'ray', 'torch', 'tensorflow', 'xgboost', 'pyarrow', 'pandas', 'sklearn'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_submodules_are_attributes_of_a_bare_import() -> None:
    program = (
        "import raydp\n"
        "import raydp_ml\n"
        "assert raydp.init_spark is raydp_ml.init_spark and raydp.stop_spark is raydp_ml.stop_spark\n"
        "assert raydp.context.init_spark is raydp.init_spark\n"
        "print(raydp.spark.dataset.from_spark_recoverable.__module__, raydp.utils.random_split.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["raydp.spark.dataset", "random_split"]


def test_unknown_names_are_refused() -> None:
    import raydp

    with pytest.raises(AttributeError, match="no attribute 'init_sparks'"):
        _ = raydp.init_sparks


def test_init_spark_takes_raydps_positional_order() -> None:
    import raydp

    names = list(inspect.signature(raydp.init_spark).parameters)
    assert names[:5] == ["app_name", "num_executors", "executor_cores", "executor_memory", "enable_hive"]
    assert names[6:10] == [
        "placement_group_strategy",
        "placement_group",
        "placement_group_bundle_indexes",
        "configs",
    ]
    assert {"fault_tolerance_mode", "fault_tolerant_mode"} <= set(names)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10", 10), ("10K", 10 << 10), ("10 m", 10 << 20), ("10  GB", 10 << 30), ("10tb", 10 << 40), ("1.5 KB", 1536)],
)
def test_parse_memory_size(text: str, expected: int) -> None:
    assert utils.parse_memory_size(text) == expected


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("last", [1, 2])
def test_divide_blocks_gives_every_rank_the_same_number_of_rows(shuffle: bool, last: int) -> None:
    blocks = [5, 1, 2, 3, 5, 6, 2, last, 2]
    divided = utils.divide_blocks(blocks, 3, shuffle)
    assert sorted(divided) == [0, 1, 2]
    for pieces in divided.values():
        assert sum(rows for _, rows in pieces) == 9 + (last - 1 + 2) // 3
        assert all(0 < rows <= blocks[index] for index, rows in pieces)


def test_divide_blocks_shuffles_by_its_seed() -> None:
    blocks = [3] * 12
    plain = utils.divide_blocks(blocks, 3)
    shuffled = utils.divide_blocks(blocks, 3, shuffle=True, shuffle_seed=7)
    assert plain == {0: [(i, 3) for i in range(4)], 1: [(i, 3) for i in range(4, 8)], 2: [(i, 3) for i in range(8, 12)]}
    assert shuffled != plain
    assert shuffled == utils.divide_blocks(blocks, 3, shuffle=True, shuffle_seed=7)
    assert sorted(piece for pieces in shuffled.values() for piece in pieces) == [(i, 3) for i in range(12)]


def test_divide_blocks_refuses_fewer_blocks_than_workers() -> None:
    with pytest.raises(ValueError, match="2 blocks, which is fewer than world_size=3"):
        utils.divide_blocks([1, 1], 3)


@pytest.mark.parametrize("name", ["raydp.utils", "raydp.torch.torch_metrics", "raydp.xgboost.estimator"])
def test_examples_in_docstrings(name: str) -> None:
    result = doctest.testmod(import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


def test_names_of_settings_are_those_that_are_read() -> None:
    from raydp.spark import ray_cluster_master
    from raydp_ml.cluster.settings import REGISTRY

    settings = [name for name in ray_cluster_master.__all__ if name != "RAYDP_SPARK_MASTER_SUFFIX"]
    assert len(settings) == 7
    assert {getattr(ray_cluster_master, name) for name in settings} <= {setting.key for setting in REGISTRY}


def test_mpi_says_what_does_the_same() -> None:
    import raydp.mpi

    with pytest.raises(
        ImportError, match=r"raydp\.mpi\.create_mpi_job is not part of raydp-ml\. .*TorchEstimator.*placement group"
    ):
        from raydp.mpi import create_mpi_job  # noqa: F401
    assert not hasattr(raydp.mpi, "something_else")


@pytest.mark.parametrize("value", [None, 1, "df", {"a": [1]}], ids=repr)
def test_df_type_check_raises_for_whatever_is_no_frame(value: object) -> None:
    """RayDP raises a bare Exception here, with these words."""
    said = f"The type: {type(value)} is not supported, only support pyspark.sql.DataFrame and pyspark.pandas.DataFrame"
    for call in (utils.df_type_check, utils.convert_to_spark, lambda df: utils.random_split(df, [1.0])):
        with pytest.raises(TypeError, match=re.escape(said)):
            call(value)
