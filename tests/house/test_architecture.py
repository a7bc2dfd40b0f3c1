"""Rooms stand in layers: a room imports only rooms below it, at the top of a file, in a function or by a name in a string."""

from __future__ import annotations

import pytest

from docs.rooms import imports_of, imports_of_rooms, levels, modules, room_of

# Low to high. Rooms of one layer may import each other.
LAYERS: list[set[str]] = [
    {"errors", "lazy", "logs", "names", "progress", "versions", "jvm"},
    {"persistence"},
    {"exchange"},
    {"cluster", "session", "application", "submitted", "build_jar"},
    {"frames"},
    {"feature"},
    {"estimators"},
    {"pipeline"},
    {"search"},
    {"serving", "cli"},
]
RANK = {room: rank for rank, layer in enumerate(LAYERS) for room in layer}

# Which optional libraries the modules of a room may name; what a room does not have here, it must not import.
OPTIONAL = {"torch", "tensorflow", "keras", "xgboost", "skorch", "safetensors"}
MAY_IMPORT: dict[str, set[str]] = {
    "estimators": OPTIONAL,
    "persistence": OPTIONAL,
}


def problems(module: str, source: str) -> list[str]:
    """What a module imports that its room may not."""
    room = room_of(module)
    if room is None:
        return []
    found = []
    for each in imports_of(source):
        other, library = room_of(each.module), each.module.split(".")[0]
        if other in RANK and RANK[other] > RANK[room]:
            found.append(f"{module}:{each.line}: {room} imports {each.module}, which stands above it")
        if library in OPTIONAL and library not in MAY_IMPORT.get(room, set()):
            found.append(f"{module}:{each.line}: {room} imports {library}, which it is not allowed to")
    return found


MODULES = dict(modules())


def test_each_room_has_a_layer() -> None:
    rooms = {room for module in MODULES if (room := room_of(module)) is not None}
    assert rooms - set(RANK) == set()
    assert {"frames", "estimators", "pipeline", "search", "persistence"} <= rooms


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_what_stands_below_it(module: str) -> None:
    assert problems(module, MODULES[module].read_text()) == []


@pytest.mark.parametrize(
    ("module", "source", "said"),
    [
        ("raydp_ml.frames.spark", "from raydp_ml.estimators.base import EstimatorBase", "stands above"),
        ("raydp_ml.frames.spark", "def f():\n    import raydp_ml.search.grid", "stands above"),
        ("raydp_ml.frames.spark", "from raydp_ml import pipeline", "stands above"),
        ("raydp_ml.persistence.values", "HOME = {'a': 'raydp_ml.pipeline.pipeline:SparkRayPipeline'}", "stands above"),
        ("raydp_ml.exchange.types", "def f():\n    import torch", "not allowed"),
        ("raydp_ml.estimators.base", "from raydp_ml.frames.frame import Frame\nimport torch", None),
        ("raydp_ml.frames.spark", "def f():\n    'raydp_ml.search.grid'", None),
    ],
    ids=["import", "in a function", "from the face", "string", "library", "downwards", "docstring"],
)
def test_the_rule_notices(module: str, source: str, said: str | None) -> None:
    found = problems(module, source)
    assert found == [] if said is None else (len(found) == 1 and said in found[0])


def test_the_picture_of_the_rooms_has_them_in_the_order_of_the_layers() -> None:
    heights = levels(imports_of_rooms())
    assert heights.keys() | {"jvm"} == RANK.keys()  # which has no Python modules
    for room, others in imports_of_rooms().items():
        for other in others:
            assert heights[room] >= heights[other]
    assert levels({"a": {"b"}, "b": set(), "c": {"a"}}) == {"a": 1, "b": 0, "c": 2}
