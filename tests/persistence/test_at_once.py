"""Several processes that save to and load from one path at once: one save stays, and readers see one whole."""

from __future__ import annotations

import multiprocessing
import multiprocessing.synchronize
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import raydp_ml
from raydp_ml.errors import InvalidValueError
from raydp_ml.persistence import filesystems
from raydp_ml.persistence.filesystems import METADATA, LocalPlace

SAVERS, TIMES = 3, 100
CONTEXT = multiprocessing.get_context("spawn")
FILES = [f"{name}.bin" for name in range(20)]


def write_number(folder: Path, number: int) -> None:
    """The same number into each of many files."""
    for name in [*FILES, METADATA]:
        (folder / name).write_text(str(number))


def read_numbers(folder: Path) -> set[int]:
    return {int((folder / name).read_text()) for name in [*FILES, METADATA]}


def start(target: Any, *arguments: Any) -> list[Any]:
    processes = [CONTEXT.Process(target=target, args=(saver + 1, *arguments)) for saver in range(SAVERS)]
    for process in processes:
        process.start()
    return processes


def cannot_swap(one: Path, other: Path) -> bool:
    return False


def save_often(saver: int, path: Path, swaps: bool, barrier: multiprocessing.synchronize.Barrier) -> None:
    if not swaps:
        filesystems.swap = cannot_swap
    barrier.wait(100)
    for turn in range(TIMES):
        LocalPlace(path).write(lambda folder, turn=turn: write_number(folder, 1000 * saver + turn), overwrite=True)


@pytest.mark.parametrize("swaps", [True, False], ids=["swap", "two renames"])
def test_readers_see_one_whole_while_several_save(tmp_path: Path, swaps: bool) -> None:
    path = tmp_path / "model"
    place = LocalPlace(path)
    place.write(lambda folder: write_number(folder, 0), overwrite=False)
    barrier = CONTEXT.Barrier(SAVERS + 1)
    savers = start(save_often, path, swaps, barrier)
    barrier.wait(100)
    seen = set()
    while any(saver.is_alive() for saver in savers):
        found = place.read(read_numbers)
        assert len(found) == 1
        seen |= found
    for saver in savers:
        saver.join()
    assert [saver.exitcode for saver in savers] == [0] * SAVERS
    assert len(seen) > 3
    (last,) = place.read(read_numbers)
    assert last % 1000 == TIMES - 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def save_once(saver: int, path: Path, barrier: multiprocessing.synchronize.Barrier) -> None:
    def fill(folder: Path) -> None:
        barrier.wait(100)  # All have begun, and found the path free.
        write_number(folder, saver)

    LocalPlace(path).write(fill, overwrite=False)


def test_saves_to_a_free_path_at_once_do_not_raise(tmp_path: Path) -> None:
    path = tmp_path / "model"
    barrier = CONTEXT.Barrier(SAVERS)  # It has to live until all processes have it.
    savers = start(save_once, path, barrier)
    for saver in savers:
        saver.join(100)
    assert [saver.exitcode for saver in savers] == [0] * SAVERS
    assert LocalPlace(path).read(read_numbers) <= {1, 2, 3}
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_what_came_meanwhile_and_is_no_save_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "model"

    def fill(folder: Path) -> None:
        write_number(folder, 1)
        path.mkdir()
        (path / "thesis.txt").write_text("mine")

    with pytest.raises(InvalidValueError, match="overwrite=True"):
        LocalPlace(path).write(fill, overwrite=False)
    assert [entry.name for entry in path.iterdir()] == ["thesis.txt"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_load_reads_again_what_was_replaced_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.arange(40, dtype=np.float32).reshape(-1, 1)
    old, new = (
        raydp_ml.XGBEstimator(objective="reg:squarederror", num_boost_round=2, verbose=False).fit(X, factor * X[:, 0])
        for factor in (1, 5)
    )
    old.save(tmp_path / "model")
    read, calls = raydp_ml.XGBEstimator.state_from_directory, []

    def replaced(self: Any, path: str, state: dict[str, Any], **given: Any) -> None:
        if not calls:
            new.save(path, overwrite=True)
        calls.append(path)
        read(self, path, state, **given)

    monkeypatch.setattr(raydp_ml.XGBEstimator, "state_from_directory", replaced)
    np.testing.assert_array_equal(raydp_ml.load(tmp_path / "model").predict(X), new.predict(X))
    assert len(calls) == 2
