"""Rooms stand in layers: a room imports only rooms below it, at the top of a file, in a function or by a name in a string."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Low to high. Rooms of one layer may import each other.
LAYERS: list[set[str]] = [
    {"errors", "lazy", "logs", "names", "versions", "jvm"},
    {"persistence"},
    {"exchange"},
    {"cluster", "session", "application", "build_jar"},
    {"frames"},
    {"feature"},
    {"estimators"},
    {"pipeline"},
    {"search"},
    {"serving"},
]
RANK = {room: rank for rank, layer in enumerate(LAYERS) for room in layer}

# Which optional libraries the modules of a room may name; what a room does not have here, it must not import.
OPTIONAL = {"torch", "tensorflow", "keras", "xgboost", "skorch", "safetensors"}
MAY_IMPORT: dict[str, set[str]] = {
    "estimators": OPTIONAL,
    "persistence": OPTIONAL,
}

_MODULE = re.compile(r"raydp_ml(\.[A-Za-z_]\w*)+(:\w+)?")


@dataclass(frozen=True)
class Import:
    """A module that a file names, and where."""

    line: int
    module: str


def room_of(module: str) -> str | None:
    """The room of a module of this package; None for its face and for other packages."""
    parts = module.split(".")
    return parts[1] if parts[0] == "raydp_ml" and len(parts) > 1 else None


def imports_of(source: str) -> Iterator[Import]:
    """Modules that a source imports, or names in strings that are no docstrings."""
    tree = ast.parse(source)
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, holders) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "raydp_ml":
            yield from (Import(node.lineno, f"raydp_ml.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield Import(node.lineno, node.module)
        elif isinstance(node, ast.Constant) and id(node) not in docstrings and _MODULE.fullmatch(str(node.value)):
            yield Import(node.lineno, str(node.value).partition(":")[0])


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


def modules() -> Iterator[tuple[str, Path]]:
    """All modules of the package and their files."""
    for folder, package in (("raydp_ml", "raydp_ml"), ("estimators", "raydp_ml.estimators")):
        for file in sorted((ROOT / folder).rglob("*.py")):
            parts = file.relative_to(ROOT / folder).with_suffix("").parts
            if folder == "raydp_ml" and parts[0] == "estimators":
                continue  # the link to the other folder
            yield ".".join([package, *parts]).removesuffix(".__init__"), file


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
