"""Saved directories that are damaged or made up: an error of ours names the file, before any library reads it."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import raydp_ml
from raydp_ml.errors import InvalidValueError, RaydpMLError
from raydp_ml.persistence.bounded_json import MAX_BYTES, MAX_DEPTH, MAX_INTEGER
from raydp_ml.persistence.metadata import Metadata, sealed

RNG = np.random.default_rng(5)
X = RNG.normal(size=(60, 3)).astype(np.float32)
Y = np.where(X[:, 0] > 0, "yes", "no")
BEFORE = Path(__file__).parent / "saved_by_format_1"


def save_xgb(folder: Path) -> None:
    raydp_ml.XGBEstimator(objective="binary:logistic", num_boost_round=3, max_depth=2, verbose=False).fit(X, Y).save(
        folder
    )


def save_torch(folder: Path) -> None:
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    raydp_ml.TorchEstimator(model, loss="CrossEntropyLoss", num_epochs=1, verbose=False).fit(X, Y).save(folder)


def save_pipeline(folder: Path) -> None:
    """A fitted pipeline with Spark stages, without starting Spark: one saved earlier, written down in this format."""
    shutil.copytree(BEFORE / "pipeline", folder)
    for part in (folder / "model", folder):
        Metadata.read(part).write(part)


SAVERS: list[Callable[[Path], None]] = [save_xgb, save_torch, save_pipeline]


@pytest.fixture(scope="module")
def saved_once(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    top = tmp_path_factory.mktemp("saved")
    for save in SAVERS:
        save(top / save.__name__)
    return {save.__name__: top / save.__name__ for save in SAVERS}


@pytest.fixture(params=[save.__name__ for save in SAVERS])
def saved(request: pytest.FixtureRequest, saved_once: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved_once[request.param], tmp_path / "saved"))


@pytest.fixture
def xgb(saved_once: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved_once["save_xgb"], tmp_path / "saved"))


def load(folder: Path) -> Any:
    return raydp_ml.load(folder, trusted=["sql"])


def change(folder: Path, **changes: Any) -> None:
    """Change ``metadata.json`` so that its own checksum is right, as somebody who wants to harm would."""
    file = folder / "metadata.json"
    file.write_text(json.dumps(sealed({**json.loads(file.read_text()), **changes})))


def test_a_flipped_bit_in_any_file_is_told(saved: Path) -> None:
    files = [file for file in saved.rglob("*") if file.is_file() and file.stat().st_size]
    assert len(files) >= 2
    for file in files:
        content = file.read_bytes()
        for position in RNG.integers(0, len(content), 25):
            flipped = bytearray(content)
            flipped[position] ^= 1 << int(RNG.integers(8))
            file.write_bytes(flipped)
            if file == saved / "metadata.json" and same_json(content, flipped):
                continue  # The space between values may be any white space.
            with pytest.raises(InvalidValueError, match=r"damaged|newer|not raydp_ml's"):
                load(saved)
        file.write_bytes(content)
    Metadata.read(saved).check_files(saved)


def same_json(one: bytes, other: bytes | bytearray) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


def test_a_file_too_few_or_too_many_is_named(saved: Path) -> None:
    for file in [file for file in saved.rglob("*") if file.is_file() and file != saved / "metadata.json"]:
        content, name = file.read_bytes(), str(file.relative_to(saved))
        file.unlink()
        with pytest.raises(InvalidValueError, match=r"incomplete: .* is missing") as error:
            load(saved)
        assert repr(name) in str(error.value)
        file.write_bytes(content + b"x")
        with pytest.raises(InvalidValueError, match=f"{len(content) + 1} bytes, {len(content)} were written"):
            load(saved)
        file.write_bytes(content)
    (saved / "notes.txt").write_text("mine")
    with pytest.raises(InvalidValueError, match=r"holds 'notes\.txt', which does not belong"):
        load(saved)


@pytest.mark.parametrize("before", [False, True], ids=["checksums", "format 1"])
def test_special_files_are_not_read(xgb: Path, before: bool, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(BEFORE / "xgb_regressor", tmp_path / "before")) if before else xgb
    model = folder / "model.ubj"
    content = model.read_bytes()
    outside = tmp_path / "outside"
    outside.write_bytes(content)
    model.unlink()
    model.symlink_to(outside)
    with pytest.raises(InvalidValueError, match=r"'model\.ubj', a link that leads out"):
        load(folder)
    model.unlink()
    os.mkfifo(model)
    with pytest.raises(InvalidValueError, match=r"'model\.ubj', which is no regular file"):
        load(folder)
    model.unlink()
    (folder / "inner").write_bytes(content)
    model.symlink_to("inner")
    with pytest.raises(InvalidValueError, match="'inner', which does not belong") if not before else nullcontext():
        load(folder)
    (folder / "metadata.json").unlink()
    os.mkfifo(folder / "metadata.json")
    with pytest.raises(InvalidValueError, match=r"metadata\.json is no regular file"):
        load(folder)
    assert stat.S_ISFIFO((folder / "metadata.json").stat().st_mode)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": ' * 100_000, f"nested deeper than {MAX_DEPTH}"),
        ('{"format": "raydp_ml", "a": ' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}", f"nested deeper than {MAX_DEPTH}"),
        ('{"format": "raydp_ml", "a": ' + "9" * 30 + "}", f"a whole number beyond {MAX_INTEGER}"),
        ('{"format": "raydp_ml", "a": 1e999}', "the number 1e999, which is too large"),
        ('{"format": "raydp_ml", "a": NaN}', "holds NaN"),
        (" " * (MAX_BYTES + 1), f"larger than {MAX_BYTES} bytes"),
        ("\xff", "is damaged"),
    ],
    ids=["very deep", "deep", "integer", "float", "nan", "large", "encoding"],
)
def test_metadata_is_bounded(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "metadata.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidValueError, match=f"damaged: .*{message}" if message != "is damaged" else message):
        raydp_ml.load(tmp_path)


def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    params: dict[str, Any] = {}
    for _ in range(MAX_DEPTH):
        params = {"a": params}
    for value in (params, {"seed": MAX_INTEGER + 1}):
        with pytest.raises(InvalidValueError, match=r"cannot be saved: in its metadata\.json, it .*(deeper|beyond)"):
            raydp_ml.SparkRayPipeline([], spark=value).save(tmp_path / "pipe")
        assert not (tmp_path / "pipe").exists()


@pytest.mark.parametrize("name", ["__class__", "__init_subclass__", "a b", "_fitted", "predict"])
def test_names_of_attributes_are_those_that_are_learnt(xgb: Path, name: str) -> None:
    state = json.loads((xgb / "metadata.json").read_text())["state"]
    change(xgb, state={**state, "attributes": {**state["attributes"], name: 3}})
    with pytest.raises(InvalidValueError, match=f"attribute '{name}'"):
        raydp_ml.load(xgb)


@pytest.mark.parametrize("name", ["__class__", "__doc__", "a b"])
def test_names_of_parameters_are_plain(xgb: Path, name: str) -> None:
    params = json.loads((xgb / "metadata.json").read_text())["params"]
    change(xgb, params={**params, name: 3})
    with pytest.raises(InvalidValueError, match=f"a parameter '{name}', which no saved directory has"):
        raydp_ml.load(xgb)
    change(
        xgb,
        params={**params, "callbacks": {"$object": {"class": "xgboost.callback.EarlyStopping", "params": {name: 3}}}},
    )
    with pytest.raises(InvalidValueError, match=f"an argument '{name}', which no saved directory has"):
        raydp_ml.load(xgb)


def test_a_short_text_asks_for_no_large_array(xgb: Path) -> None:
    for dtype, message in (("<U400000000", "array of 1 values"), ("V999999999", "array of 1 values")):
        change(xgb, params={"feature_columns": {"$numpy": {"dtype": dtype, "shape": None, "data": ["a"]}}})
        with pytest.raises(InvalidValueError, match=message):
            raydp_ml.load(xgb)


def test_metadata_that_was_made_up_is_an_error_of_ours(xgb: Path) -> None:
    good = json.loads((xgb / "metadata.json").read_text())
    wrong: list[dict[str, Any]] = [
        {"files": []},
        {"files": {"model.ubj": 3}},
        {"files": {"../../x": {"size": 1, "sha256": ""}}},
        {"params": [1]},
        {"versions": None},
        {"class": 3},
        {"state": 3},
        {"state": {}},
        {"format_version": 1},
        {"format_version": 0},
        {"format_version": True},
        {"format_version": "2"},
    ]
    for changes in wrong:
        change(xgb, **{**good, **changes})
        with pytest.raises(RaydpMLError):
            raydp_ml.load(xgb)
    for key in good:
        (xgb / "metadata.json").write_text(json.dumps({name: value for name, value in good.items() if name != key}))
        with pytest.raises(InvalidValueError):
            raydp_ml.load(xgb)
