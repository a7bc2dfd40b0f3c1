"""Values to JSON and back, and what is refused on the way back."""

from __future__ import annotations

import functools
import json
import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import raydp_ml
from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.persistence import directory
from raydp_ml.persistence.attachments import Attachments
from raydp_ml.persistence.codecs import CannotEncodeError
from raydp_ml.persistence.trust import Trust
from raydp_ml.persistence.values import decode, encode


def round_trip(value: Any, folder: Path, trusted: Any = ()) -> Any:
    attachments = Attachments(folder)
    return decode(json.loads(json.dumps(encode(value, attachments), allow_nan=False)), attachments, Trust(trusted))


class Settings:
    """A small object that keeps its arguments."""

    def __init__(self, depth: int = 1, names: tuple[str, ...] = ()) -> None:
        self.depth = depth
        self.names = names


class Forgetful:
    """An object that does not keep its argument as it was."""

    def __init__(self, depth: int = 1) -> None:
        self.depth = depth * 2


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        7,
        2.5,
        "text",
        [1, [2]],
        (1, (2, "x")),
        {"a": (1,), "b": {"c": None}},
        {1: "one", (2, 3): "pair"},
        {"$class": "os.system"},
        {},
        {3, 4},
        b"\x00\xff",
        float("inf"),
        np.float32(1.5),
        np.int64(-3),
        np.str_("word"),
        np.datetime64("2024-02-29T12:00:00"),
        dict,
        math.sqrt,
        Settings,
    ],
    ids=repr,
)
def test_values_come_back_equal_and_of_their_type(value: Any, tmp_path: Path) -> None:
    back = round_trip(value, tmp_path, trusted=["builtins", "math", __name__])
    assert back == value
    assert type(back) is type(value)


def test_what_is_ours_is_named_as_users_name_it_and_found_by_former_paths(tmp_path: Path) -> None:
    attachments = Attachments(tmp_path)
    assert encode(raydp_ml.XGBEstimator, attachments) == {"$class": "raydp_ml.XGBEstimator"}
    assert encode(directory.load, attachments) == {"$function": "raydp_ml.load"}
    assert encode(directory.Savable, attachments) == {"$class": "raydp_ml.persistence.Savable"}
    for former in ("raydp_ml.estimators.xgb.XGBEstimator", "raydp_ml.estimators.xgb.estimator.XGBEstimator"):
        assert decode({"$class": former}, attachments, Trust()) is raydp_ml.XGBEstimator


def test_nan_comes_back() -> None:
    assert math.isnan(round_trip(float("nan"), Path()))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int16).reshape(2, 3),
        np.array([1.5, np.nan]),
        np.array(["a", "bcd"]),
        np.array(["a", None, 3], dtype=object),
        np.array(["2024-01-01", "NaT"], dtype="datetime64[ns]"),
        np.empty((0, 2)),
    ],
    ids=["ints", "nan", "strings", "objects", "dates", "empty"],
)
def test_arrays_come_back(array: np.ndarray) -> None:
    back = round_trip(array, Path())
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_small_objects_are_rebuilt_from_their_arguments_when_trusted(tmp_path: Path) -> None:
    back = round_trip(Settings(3, ("a",)), tmp_path, trusted=[Settings])
    assert (back.depth, back.names) == (3, ("a",))
    with pytest.raises(InvalidValueError, match=r"test_values\.Settings.*trusted="):
        round_trip(Settings(3), tmp_path)


@pytest.mark.parametrize(
    "value", [lambda: 1, Forgetful(2), object(), np.array([1j])], ids=["lambda", "changed", "bare", "complex"]
)
def test_what_has_no_safe_form_is_refused_when_written(value: Any, tmp_path: Path) -> None:
    with pytest.raises(CannotEncodeError):
        encode(value, Attachments(tmp_path))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"$class": "os.PathLike"}, "outside torch.nn"),
        ({"$class": "subprocess.Popen"}, r"trusted=\['subprocess.Popen'\]"),
        ({"$function": "os.system"}, "outside torch.nn"),
        # What a trusted module happens to have imported is not trusted.
        ({"$class": "raydp_ml.persistence.values.Path"}, "pathlib.Path"),
        ({"$function": "raydp_ml.persistence.names.import_module"}, "outside torch.nn"),
        ({"$class": "raydp_ml.persistence.names.sys.exit"}, "which it is not"),
        ({"$function": "raydp_ml.persistence.load"}, "outside torch.nn"),
        ({"$object": {"class": "subprocess.Popen", "params": {"args": "true"}}}, "subprocess.Popen"),
        ({"$object": {"class": "raydp_ml.pipeline.SparkRayPipeline", "params": {}}}, "SparkRayPipeline"),
        ({"$object": {"class": "ray.train.DataParallelTrainer", "params": {}}}, "DataParallelTrainer"),
        ({"$module": {"class": "torch.optim.Adam", "arguments": {}, "dtype": None, "frozen": []}}, "torch.optim.Adam"),
        ({"$module": {"class": "mynets.Net", "arguments": {}, "dtype": None, "frozen": []}}, "mynets.Net"),
        ({"$keras": {"module": "os", "class_name": "system", "config": {}}}, "os.system"),
        ({"$keras": {"module": "keras.layers", "class_name": "Lambda", "config": {"f": {"class_name": "__lambda__"}}}}, "lambda"),
        ({"$partial": {"of": {"$class": "keras.layers.TFSMLayer"}, "arguments": [], "keywords": {}}}, "keras.layers.TFSMLayer"),
        ({"$partial": {"of": {"$function": "os.system"}, "arguments": ["true"], "keywords": {}}}, "os.system"),
        ({"$partial": {"of": {"$class": "torch.optim.SGD"}, "arguments": [], "keywords": {"__x": 1}}}, "an argument '__x'"),
        ({"$keras_model": "../outside.keras"}, "does not hold"),
        ({"$later": 1}, r"\$later"),
        ({"$class": 5}, "not a qualified name"),
        ({"$class": "torch.nn.NoSuchLayer"}, "not here"),
    ],
)  # fmt: skip
def test_names_outside_the_rules_are_refused(spec: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=message):
        decode(spec, Attachments(tmp_path), Trust())


def test_trusted_must_be_a_list_of_names() -> None:
    with pytest.raises(InvalidTypeError, match=r"trusted=\['mymodule'\]"):
        Trust("mymodule")
    with pytest.raises(InvalidTypeError, match="names, classes and functions"):
        Trust([3])
    assert Trust(["my"]).covers("my.module.Net")
    assert not Trust(["my"]).covers("mymodule.Net")


def torch_modules() -> list[Any]:
    nn = pytest.importorskip("torch").nn
    return [
        nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.3), nn.Linear(4, 1, bias=False)),
        nn.Sequential(OrderedDict(embed=nn.Embedding(5, 2, padding_idx=0), norm=nn.BatchNorm1d(3, affine=False))),
        nn.LSTM(3, 4, num_layers=2, batch_first=True),
        nn.Linear(2, 2).double(),
        nn.CrossEntropyLoss(weight=pytest.importorskip("torch").tensor([1.0, 3.0]), label_smoothing=0.1),
        nn.MultiheadAttention(8, 2, bias=False),
    ]


def test_torch_modules_come_back_with_their_weights(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    for module in torch_modules():
        back = round_trip(module, tmp_path)
        assert repr(back) == repr(module)
        before, after = module.state_dict(), back.state_dict()
        assert before.keys() == after.keys()
        assert all(
            torch.equal(after[name], tensor) and after[name].dtype == tensor.dtype for name, tensor in before.items()
        )


def test_frozen_parameters_stay_frozen(tmp_path: Path) -> None:
    nn = pytest.importorskip("torch").nn
    module = nn.Linear(2, 1)
    module.bias.requires_grad_(False)
    back = round_trip(module, tmp_path)
    assert [parameter.requires_grad for parameter in back.parameters()] == [True, False]


def test_a_module_that_hides_an_argument_is_not_written_as_if_it_did_not(tmp_path: Path) -> None:
    nn = pytest.importorskip("torch").nn

    class Hidden(nn.Module):
        def __init__(self, width: int = 2) -> None:
            super().__init__()
            self.layer = nn.Linear(width, 1)

    with pytest.raises(CannotEncodeError, match="width"):
        encode(Hidden(3), Attachments(tmp_path))
    with pytest.raises(CannotEncodeError, match="d_model"):
        encode(nn.TransformerEncoderLayer(8, 2), Attachments(tmp_path))


def test_optimizers_and_losses_come_back(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.AdamW(torch.nn.Linear(1, 1).parameters(), lr=0.3, betas=(0.5, 0.6))
    back = round_trip(optimizer, tmp_path)
    assert type(back) is torch.optim.AdamW
    assert (back.defaults["lr"], back.defaults["betas"]) == (0.3, (0.5, 0.6))
    made = round_trip(functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9), tmp_path)
    assert (made.func, made.args, made.keywords) == (torch.optim.SGD, (), {"lr": 0.1, "momentum": 0.9})
    own = round_trip(functools.partial(Settings, 3, names=("a",)), tmp_path, trusted=[Settings])()
    assert (own.depth, own.names) == (3, ("a",))
    with pytest.raises(CannotEncodeError, match="no class and no function"):
        encode(functools.partial(torch.nn.ReLU()), Attachments(tmp_path))
    assert round_trip(torch.nn.functional.mse_loss, tmp_path) is torch.nn.functional.mse_loss
    assert round_trip(torch.float64, tmp_path) is torch.float64
