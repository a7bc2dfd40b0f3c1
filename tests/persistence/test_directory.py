"""Saved directories of estimators: what is in them, how they appear, and which are refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import fs

import raydp_ml
from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.estimators.xgb import XGBEstimator
from raydp_ml.persistence import directory
from raydp_ml.persistence.filesystems import RemotePlace
from raydp_ml.persistence.metadata import sealed
from raydp_ml.pipeline import SparkRayPipeline

RNG = np.random.default_rng(3)
X = RNG.normal(size=(80, 3)).astype(np.float32)
Y = np.where(X[:, 0] + X[:, 1] > 0, "yes", "no")


@pytest.fixture(scope="module")
def fitted() -> XGBEstimator:
    return XGBEstimator(objective="binary:logistic", num_boost_round=4, max_depth=2, eta=0.5, verbose=False).fit(X, Y)


@pytest.fixture
def saved(fitted: XGBEstimator, tmp_path: Path) -> Path:
    fitted.save(tmp_path / "model")
    return tmp_path / "model"


def change_metadata(folder: Path, **changes: Any) -> None:
    file = folder / "metadata.json"
    file.write_text(json.dumps(sealed({**json.loads(file.read_text()), **changes})))


def test_a_loaded_estimator_predicts_the_same(fitted: XGBEstimator, saved: Path) -> None:
    for loaded in (raydp_ml.load(saved), XGBEstimator.load(saved), raydp_ml.load(saved.as_uri())):
        np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
        assert loaded.predict(X).tolist() == fitted.predict(X).tolist()
        assert loaded.get_params() == fitted.get_params()
        assert loaded.classes_.tolist() == ["no", "yes"]


def test_metadata_tells_class_params_and_versions(saved: Path) -> None:
    metadata = json.loads((saved / "metadata.json").read_text())
    assert metadata["class"] == "raydp_ml.XGBEstimator"
    assert metadata["format_version"] == directory.FORMAT_VERSION
    assert metadata["params"]["max_depth"] == 2
    assert metadata["versions"]["numpy"] == np.__version__


def test_an_unfitted_estimator_comes_back_unfitted(tmp_path: Path) -> None:
    XGBEstimator(objective="reg:squarederror", max_depth=7).save(tmp_path / "new")
    loaded = raydp_ml.load(tmp_path / "new")
    assert loaded.max_depth == 7
    assert not loaded.__sklearn_is_fitted__()


def test_an_existing_directory_is_replaced_only_on_request(fitted: XGBEstimator, saved: Path) -> None:
    with pytest.raises(InvalidValueError, match="overwrite=True"):
        fitted.save(saved)
    (saved / "left_over").write_text("old")
    fitted.save(saved, overwrite=True)
    assert not (saved / "left_over").exists()
    assert raydp_ml.load(saved).get_params() == fitted.get_params()
    assert [entry.name for entry in saved.parent.iterdir()] == ["model"]


def test_an_empty_directory_may_be_saved_to(fitted: XGBEstimator, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    assert raydp_ml.load(tmp_path).classes_.tolist() == ["no", "yes"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failed_save_leaves_what_was_there(
    fitted: XGBEstimator, tmp_path: Path, overwrite: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model"
    if overwrite:
        fitted.save(target)
    before = sorted(target.rglob("*"))

    def fail(self: Any, path: str) -> None:
        Path(path, "half").write_text("half of the weights")
        raise OSError("the disk is full")

    monkeypatch.setattr(XGBEstimator, "state_to_directory", fail)
    with pytest.raises(OSError, match="the disk is full"):
        fitted.save(target, overwrite=overwrite)
    assert sorted(target.rglob("*")) == before
    assert [entry.name for entry in tmp_path.iterdir()] == (["model"] if overwrite else [])


def test_another_filesystem(fitted: XGBEstimator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bucket").mkdir()
    remote = fs.SubTreeFileSystem(str(tmp_path / "bucket"), fs.LocalFileSystem())
    monkeypatch.setattr(
        directory, "locate", lambda path: RemotePlace(remote, str(path).removeprefix("far://"), str(path))
    )
    fitted.save("far://deep/model")
    np.testing.assert_array_equal(raydp_ml.load("far://deep/model").predict_proba(X), fitted.predict_proba(X))
    with pytest.raises(InvalidValueError, match="overwrite=True"):
        fitted.save("far://deep/model")
    fitted.save("far://deep/model", overwrite=True)
    (tmp_path / "bucket" / "deep" / "model" / "metadata.json").unlink()
    with pytest.raises(InvalidValueError, match="did not finish"):
        raydp_ml.load("far://deep/model")
    with pytest.raises(InvalidValueError, match="there is no directory far://nowhere"):
        raydp_ml.load("far://nowhere")


def test_paths_that_cannot_be_used(fitted: XGBEstimator) -> None:
    with pytest.raises(InvalidValueError, match=r"pyarrow\.fs"):
        fitted.save("gopher://host/model")
    with pytest.raises(InvalidTypeError, match="path must be"):
        fitted.save(3)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="there is no directory /no/such"):
        raydp_ml.load("/no/such/place")


def test_directories_that_are_not_ours(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"holds no metadata\.json"):
        raydp_ml.load(tmp_path)
    (tmp_path / "metadata.json").write_text('{"class": "org.apache.spark.ml.PipelineModel"}')
    with pytest.raises(InvalidValueError, match="not raydp_ml's"):
        raydp_ml.load(tmp_path)
    (tmp_path / "metadata.json").write_text('{"format": "raydp_ml", ')
    with pytest.raises(InvalidValueError, match="is damaged"):
        raydp_ml.load(tmp_path)


def test_a_newer_format_says_what_to_install(saved: Path) -> None:
    change_metadata(saved, format_version=directory.FORMAT_VERSION + 1, versions={"raydp_ml": "9.1"})
    with pytest.raises(InvalidValueError, match=r"format version 3.*saved by raydp_ml 9\.1"):
        raydp_ml.load(saved)


@pytest.mark.parametrize("name", ["subprocess.Popen", "os.system", "__main__.Estimator"])
def test_the_class_of_the_file_is_not_imported(saved: Path, name: str) -> None:
    change_metadata(saved, **{"class": name})
    with pytest.raises(InvalidValueError, match=f"{name}.*trusted="):
        raydp_ml.load(saved)


def test_only_classes_that_take_part_are_built(saved: Path) -> None:
    change_metadata(saved, **{"class": "raydp_ml.errors.RaydpMLError"})
    with pytest.raises(InvalidTypeError, match="only estimators and pipelines"):
        raydp_ml.load(saved)


def test_load_of_another_class_names_the_right_one(saved: Path) -> None:
    with pytest.raises(InvalidTypeError, match=r"holds a XGBEstimator.*XGBEstimator\.load"):
        SparkRayPipeline.load(saved)


def test_another_major_version_is_a_warning(saved: Path) -> None:
    change_metadata(saved, versions={"xgboost": "1.7.0", "numpy": np.__version__})
    with pytest.warns(UserWarning, match=r"xgboost 1\.7\.0 \(now"):
        raydp_ml.load(saved)


def test_a_parameter_that_cannot_be_written_has_its_default_with_a_warning(
    fitted: XGBEstimator, tmp_path: Path
) -> None:
    class Callback:
        """Not to be found by another process."""

    callback = Callback()
    fitted.set_params(callbacks=[callback])
    try:
        fitted.save(tmp_path / "model")
    finally:
        fitted.set_params(callbacks=None)
    with pytest.warns(UserWarning, match=r"'callbacks'.*Callback.*load\(path, params=\{'callbacks': \.\.\.\}\)"):
        loaded = raydp_ml.load(tmp_path / "model")
    assert loaded.callbacks is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert raydp_ml.load(tmp_path / "model", params={"callbacks": [callback]}).callbacks == [callback]


def test_parameters_given_to_load_are_set_or_told(fitted: XGBEstimator, saved: Path, tmp_path: Path) -> None:
    loaded = raydp_ml.load(saved, params={"max_depth": 7, "subsample": 0.5, "callbacks": None})
    assert (loaded.max_depth, loaded.subsample) == (7, 0.5)
    with pytest.raises(InvalidValueError, match=r"names 'max_depht', which the saved XGBEstimator .*mean 'max_depth'"):
        raydp_ml.load(saved, params={"max_depht": 3})
    SparkRayPipeline([("clean", "SELECT * FROM __THIS__"), ("model", fitted)]).save(tmp_path / "pipe")
    trusted = ["sql"]
    nested = raydp_ml.load(tmp_path / "pipe", trusted=trusted, params={"model__max_depth": 7, "clean": "passthrough"})
    assert nested.get_params()["model__max_depth"] == 7
    assert nested.steps[0] == ("clean", "passthrough")
    for wrong, near in (
        ("model__max_depht", "model__max_depth"),
        ("claen", "clean"),
        ("max_depth", "model__max_depth"),
    ):
        with pytest.raises(InvalidValueError, match=f"names '{wrong}', which the saved SparkRayPipeline .*'{near}'"):
            raydp_ml.load(tmp_path / "pipe", trusted=trusted, params={wrong: 3})


def test_a_link_and_a_file_are_replaced_by_themselves(fitted: XGBEstimator, saved: Path) -> None:
    link, file = saved.with_name("latest"), saved.with_name("file")
    link.symlink_to(saved)
    file.write_text("no directory")
    for path in (link, file):
        with pytest.raises(InvalidValueError, match="overwrite=True"):
            fitted.save(path)
        fitted.save(path, overwrite=True)
        assert path.is_dir()
        assert not path.is_symlink()
        assert raydp_ml.load(path).get_params() == fitted.get_params()
    assert raydp_ml.load(saved).get_params() == fitted.get_params()
    assert sorted(entry.name for entry in saved.parent.iterdir()) == ["file", "latest", "model"]
