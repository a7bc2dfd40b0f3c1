"""Rows on a worker's disk: the same models as from memory, whole epochs, and nothing left behind."""

from __future__ import annotations

import gc
import logging
import os
import signal
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import xgboost
from scipy import sparse
from torch import nn

from raydp_ml import Callback, InvalidValueError, TorchEstimator, XGBEstimator
from raydp_ml.estimators import streamed
from raydp_ml.estimators.launch import streaming
from raydp_ml.estimators.launch.assignment import Placement
from raydp_ml.estimators.launch.streaming import is_streamed
from raydp_ml.estimators.protocol import Rows
from raydp_ml.estimators.streamed import Passage, Spool, StreamedRows
from raydp_ml.frames.arrays import Arrays, Blocks
from raydp_ml.frames.columns import Feature, Selection
from raydp_ml.frames.layouts import TypedColumns
from tests.waiting import until

RNG = np.random.default_rng(5)
ROWS = 2000
X = RNG.normal(size=(ROWS, 4)).astype(np.float32)
Y = np.where(X[:, 0] * X[:, 1] + X[:, 2] > 0, "yes", "no")
AMOUNT = (X @ np.array([1.0, -2.0, 0.5, 0.0], np.float32)).astype(float)
WEIGHT = RNG.uniform(0.5, 2.0, ROWS).astype(np.float32)


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A buffer of some 300 rows, in eight chunks, so that an epoch takes several."""
    monkeypatch.setattr(streamed, "BUFFER_BYTES", 300 * 28)
    monkeypatch.setattr(streamed, "CHUNKS", 8)


def on_disk(X: Any, y: np.ndarray, weight: np.ndarray | None = None) -> StreamedRows:
    spool = Spool(len(y))
    for start, stop in ((0, 700), (700, 701), (701, len(y))):
        spool.add(Rows(X[start:stop], y[start:stop], None if weight is None else weight[start:stop]))
    described, files = spool.finish()
    return described.open(files)


def typed(rows: int) -> TypedColumns:
    return TypedColumns((np.arange(rows)[:, None] + (1 << 40), X[:rows]), np.arange(rows) % 7 == 0)


def test_rows_come_back_from_the_disk_in_every_layout_and_the_files_go() -> None:
    csr = sparse.csr_matrix(np.where(np.abs(X) > 1, X, 0))
    ranges = [slice(690, 705), slice(0, 3), slice(ROWS - 2, ROWS), slice(5, 5)]
    rows = np.concatenate([np.arange(ROWS)[each] for each in ranges])
    opened = {
        name: on_disk(each, Y == "yes", WEIGHT)
        for name, each in {"dense": X, "sparse": csr, "typed": typed(ROWS)}.items()
    }
    read = {name: each.read(ranges) for name, each in opened.items()}
    np.testing.assert_array_equal(read["dense"].X, X[rows])
    np.testing.assert_array_equal(read["sparse"].X.toarray(), csr[rows].toarray())
    assert read["sparse"].X.has_canonical_format and opened["sparse"].X.shape == csr.shape
    for found, wanted in zip(read["typed"].X.groups, typed(ROWS)[rows].groups, strict=True):
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(read["typed"].X.missing, rows % 7 == 0)
    for each in read.values():
        np.testing.assert_array_equal(each.y, (Y == "yes")[rows])
        np.testing.assert_array_equal(each.weight, WEIGHT[rows])
    files = [file for each in opened.values() for file in each.files.values()]
    links = [os.readlink(f"/proc/self/fd/{file}") for file in files]
    assert all(link.endswith("(deleted)") for link in links)  # nobody has to remove them
    del opened, each
    gc.collect()
    assert not any(
        os.path.exists(f"/proc/self/fd/{file}") and os.readlink(f"/proc/self/fd/{file}") in links for file in files
    )


@pytest.mark.usefixtures("small_buffers")
def test_an_epoch_has_every_row_once_and_a_batch_rows_of_many_places() -> None:
    rows = on_disk(X, np.arange(ROWS))

    def epoch(seed: Any) -> list[np.ndarray]:
        passage = Passage(rows, seed)
        return [passage.take(size).y for size in [50] * 39 + [0, 50]]

    assert np.concatenate(epoch(None)).tolist() == list(range(ROWS))
    first, second = epoch((3, 0)), epoch((3, 1))
    for batches in (first, second):
        assert sorted(np.concatenate(batches)) == list(range(ROWS))
    assert (np.concatenate(first) != np.concatenate(second)).mean() > 0.95
    assert all((one == other).all() for one, other in zip(first, epoch((3, 0)), strict=True))
    # The labels are sorted, as a frame may be: a batch of 50 rows has some of each of the eight chunks in the buffer.
    places = [len(np.unique(batch // 37)) for batch in first if len(batch)]
    assert np.median(places) >= 8 and np.std([batch.mean() for batch in first[:6]]) < 250


def net(model: nn.Module | None = None, **settings: Any) -> TorchEstimator:
    torch.manual_seed(1)
    model = (
        nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2))
        if model is None
        else model
    )
    given = {
        "loss": "CrossEntropyLoss",
        "lr": 0.01,
        "batch_size": 96,
        "num_epochs": 3,
        "random_state": 4,
        "verbose": False,
    }
    return TorchEstimator(model, **{**given, **settings})


def trees(**settings: Any) -> XGBEstimator:
    given = {
        "task": "classification",
        "num_boost_round": 8,
        "max_depth": 4,
        "random_state": 2,
        "nthread": 1,
        "verbose": False,
    }
    return XGBEstimator(**{**given, **settings})


def same(one: Any, other: Any, X: Any) -> None:
    """Two fits that are one."""
    for mine, theirs in zip(one.history_, other.history_, strict=True):
        assert {**mine, "seconds": 0} == {**theirs, "seconds": 0}
    np.testing.assert_array_equal(one.predict(X), other.predict(X))


@pytest.mark.usefixtures("small_buffers")
def test_a_network_learns_the_same_in_the_same_order() -> None:
    settings = {"shuffle": False, "validation": 0.25, "metrics": ["accuracy"], "class_weight": "balanced"}
    for about in (settings, {**settings, "drop_last": True, "accumulate_batches": 2}):
        one, other = (net(**about, streaming=each).fit(X, Y, WEIGHT) for each in (False, True))
        same(one, other, X)
    csr = sparse.csr_matrix(np.where(np.abs(X) > 1, X, 0))
    one, other = (net(shuffle=False, streaming=each).fit(csr, Y) for each in (False, True))
    same(one, other, csr)


@pytest.mark.usefixtures("small_buffers")
def test_a_network_learns_as_well_from_shuffled_buffers() -> None:
    order = np.argsort(Y)  # one class after the other
    settings = {
        "num_epochs": 12,
        "batch_size": 50,
        "model": nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)),
    }
    memory, disk, again = (net(**settings, streaming=each).fit(X[order], Y[order]) for each in (False, True, True))
    assert disk.score(X, Y) == pytest.approx(memory.score(X, Y), abs=0.03) and disk.score(X, Y) > 0.9
    same(disk, again, X)


@pytest.mark.usefixtures("small_buffers")
def test_trees_are_those_of_memory_where_the_bins_are(recwarn: pytest.WarningsRecorder) -> None:
    rounded, few = np.round(X, 1), {"validation": 0.2, "early_stopping_rounds": 3, "subsample": 0.7}
    memory = trees(**few).fit(rounded, Y, WEIGHT)
    for about in ({"streaming": True}, {"external_memory": True}):
        same(memory, trees(**few, **about).fit(rounded, Y, WEIGHT), rounded)
    csr = sparse.csr_matrix(np.where(np.abs(rounded) > 1, rounded, 0))
    same(trees().fit(csr, Y), trees(external_memory=True).fit(csr, Y), csr)
    # Bounds of bins that are found chunk by chunk are others where a feature has more values than bins.
    memory, disk = trees().fit(X, Y), trees(external_memory=True).fit(X, Y)
    assert disk.history_[-1]["train_logloss"] == pytest.approx(memory.history_[-1]["train_logloss"], abs=0.01)
    times = {
        "objective": "survival:aft",
        "task": None,
        "feature_weights": [1.0, 2.0, 0.0, 1.0],
        "colsample_bytree": 0.5,
    }
    bounds = np.column_stack([np.exp(AMOUNT), np.where(AMOUNT > 1, np.inf, np.exp(AMOUNT))])
    same(trees(**times).fit(rounded, bounds), trees(**times, external_memory=True).fit(rounded, bounds), rounded)
    # Going on from trees of before, which look at the values.
    one, other = (trees(external_memory=each).fit(rounded, Y).partial_fit(X[:900], Y[:900]) for each in (False, True))
    same(one, other, X)
    assert one.get_booster().num_boosted_rounds() == 16
    gc.collect()  # xgboost would warn here of files that went before their matrix
    assert [each.message for each in recwarn if "cache file" in str(each.message)] == []


def test_what_cannot_be_streamed_is_refused_with_the_reason() -> None:
    grades = np.digitize(AMOUNT, [-1.0, 0.0, 1.0])
    ranked = pa.table({"a": X[:, 0], "grade": grades, "query": np.arange(ROWS) // 10})
    ranking = {"task": "ranking", "label_column": "grade", "qid_column": "query", "streaming": True}
    for kwargs, data, message in [
        ({"tree_method": "exact", "streaming": True}, (X, Y), "'exact' and 'approx' read the values"),
        ({"booster": "gblinear", "external_memory": True}, (X, Y), "'gblinear'"),
        ({"xgb_model": trees().fit(X, Y).get_booster(), "streaming": True}, (X, Y), "trees of before"),
        (ranking, (ranked,), "ranking needs"),
        ({**ranking, "objective": lambda predicted, matrix: (predicted, predicted)}, (ranked,), "ranking needs"),
        ({"external_memory": True, "streaming": False}, (X, Y), "streaming=False forbids"),
        ({"streaming": "yes"}, (X, Y), "streaming='yes' must be"),
    ]:  # fmt: skip
        with pytest.raises(InvalidValueError, match=message):
            trees(**kwargs).fit(*data)
    fitted = trees().fit(X, Y)
    with pytest.raises(InvalidValueError, match="trees of before"):
        fitted.set_params(streaming=True).partial_fit(X, Y)


def test_external_memory_names_the_xgboost_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xgboost, "__version__", "2.1.4")
    with pytest.raises(InvalidValueError, match=r"needs xgboost 3\.0 or later, and 2\.1\.4 is installed"):
        trees(external_memory=True).fit(X, Y)


def test_a_disk_without_room_is_said_before_the_rows_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(InvalidValueError, match=r"2,000 rows, about 48,000 bytes, to .* 1,000 bytes free; set TMPDIR"):
        net(streaming=True).fit(X, Y)


def test_auto_compares_bytes_with_what_a_worker_may_have(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="raydp_ml.estimators")
    selection = Selection((Feature("a"), Feature("v", 9), Feature("id", 1, "int64")), ("y",), {"weight": "w"})
    blocks = Blocks([object()], selection, rows=1_000_000, size_bytes=10**12)  # 60 bytes each, twice, on two workers
    for memory, expected in ((60_000_001, False), (59_999_999, True)):
        placement = Placement(workers=2, resources_per_worker={"memory": memory})
        assert is_streamed("auto", None, blocks, placement) is expected
        assert ("streaming: 1,000,000 rows would take about 60,000,000 bytes" in caplog.text) is expected
    assert is_streamed("auto", "a reason", blocks, placement) is False and "cannot be streamed: a reason" in caplog.text
    assert is_streamed(False, None, blocks, placement) is False and is_streamed(True, None, blocks, placement) is True
    assert is_streamed("auto", None, Arrays(X), placement) is False  # they are in memory already


# -- on workers --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset(ray_cluster: None) -> Any:
    import ray.data

    names = dict(zip("abcd", np.round(X, 1).T, strict=True))
    kind = pa.array(np.where(X[:, 3] > 0.5, "high", np.where(X[:, 3] > -0.5, "middle", "low"))).dictionary_encode()
    table = pa.table({**names, "label": Y, "held": RNG.random(ROWS) < 0.2, "kind": kind})
    return ray.data.from_arrow([table.slice(0, 900), table.slice(900, 1), table.slice(901)]).materialize()


FRAME = {"label_column": "label", "validation": "held"}


def caches() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob("raydp_ml_*/cache"))


class Dies(Callback):
    """Kills the process that trains, once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        if not (self.folder / "cache").exists():
            (self.folder / "cache").write_text(str(caches()[0]))
            os.kill(os.getpid(), signal.SIGKILL)
        return False


def test_the_warm_worker_streams_and_nothing_is_left_when_it_is_killed(dataset: Any, tmp_path: Path) -> None:
    before = set(caches())
    one, other = (net(shuffle=False, **FRAME, streaming=each).fit(dataset) for each in (False, True))
    same(one, other, np.round(X, 1))
    memory = trees(**FRAME).fit(dataset)
    same(memory, trees(**FRAME, streaming=True).fit(dataset), np.round(X, 1))

    class DiesOnce(Dies, xgboost.callback.TrainingCallback):
        pass

    disk = trees(**FRAME, external_memory=True, callbacks=[DiesOnce(tmp_path)]).fit(dataset)
    same(memory, disk, np.round(X, 1))
    gone = Path((tmp_path / "cache").read_text())
    until(lambda: not gone.parent.exists(), 20, "the files of the killed worker to go")
    until(lambda: set(caches()) <= before, 20, "the files of the fit to go")


def test_auto_streams_a_dataset_that_memory_cannot_hold(
    dataset: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, logger="raydp_ml.estimators")
    est = net(**FRAME, num_workers=0, shuffle=False)
    memory = est.fit(dataset).history_
    assert "streaming" not in caplog.text
    monkeypatch.setattr(streaming, "available_memory", lambda: 50_000)
    est.fit(dataset)
    assert "streaming: 2,000 rows would take about" in caplog.text
    assert [entry["valid_loss"] for entry in est.history_] == [entry["valid_loss"] for entry in memory]


@pytest.mark.slow
def test_two_workers_stream(dataset: Any) -> None:
    import ray

    rounded = np.round(X, 1)
    one, other = (net(shuffle=False, num_workers=2, **FRAME, streaming=each).fit(dataset) for each in (False, True))
    assert other.history_[-1]["train_loss"] == pytest.approx(one.history_[-1]["train_loss"], abs=1e-6)
    np.testing.assert_allclose(one.predict_proba(rounded), other.predict_proba(rounded), atol=1e-5)
    about = {**FRAME, "num_workers": 2}
    memory, disk = (trees(**about, external_memory=each).fit(dataset) for each in (False, True))
    np.testing.assert_allclose(memory.predict_proba(rounded), disk.predict_proba(rounded), atol=1e-5)
    about |= {"enable_categorical": True, "feature_columns": [*"abc", "kind"], "max_cat_to_onehot": 1}
    memory, disk = (trees(**about, external_memory=each).fit(dataset) for each in (False, True))
    assert disk.get_booster().feature_types == ["q", "q", "q", "c"]
    rows = pa.concat_tables(ray.get(dataset.to_arrow_refs()))
    one, other = (np.array(est.predict_proba(rows)["probability"].to_pylist()) for est in (memory, disk))
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.slow
def test_rows_of_five_times_the_object_store_train_in_bounded_memory(run_program: Any) -> None:
    told = run_program(Path(__file__).with_name("programs") / "larger_than_the_store.py")
    buffers = 2 * streamed.BUFFER_BYTES / 1e6
    for name, least in (("torch", 0.95), ("xgb", 0.7)):
        found = told[name]
        assert found["score"] > least and found["valid"][-1] < found["valid"][0]
        assert max(found["driver"], found["worker"]) < 500 + buffers, found
