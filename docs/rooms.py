"""Reads from the sources which room of the package imports which: for the picture of them and for the test of their layers."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

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


def modules() -> Iterator[tuple[str, Path]]:
    """All modules of the package and their files."""
    for folder, package in (("raydp_ml", "raydp_ml"), ("estimators", "raydp_ml.estimators")):
        for file in sorted((ROOT / folder).rglob("*.py")):
            parts = file.relative_to(ROOT / folder).with_suffix("").parts
            if folder == "raydp_ml" and parts[0] == "estimators":
                continue  # the link to the other folder
            yield ".".join([package, *parts]).removesuffix(".__init__"), file


def imports_of_rooms() -> dict[str, set[str]]:
    """The other rooms that each room imports."""
    found: dict[str, set[str]] = {}
    for module, file in modules():
        room = room_of(module)
        if room is not None:
            others = {room_of(each.module) for each in imports_of(file.read_text())}
            found.setdefault(room, set()).update(other for other in others if other not in (None, room))
    return {room: {other for other in others if other in found} for room, others in found.items()}


def levels(imports: dict[str, set[str]]) -> dict[str, int]:
    """How high each room stands: one above the highest that it imports; rooms that import each other stand side by side."""
    heights = dict.fromkeys(imports, 0)
    for _ in imports:
        for room, others in imports.items():
            for other in others:
                mutual = room in imports[other]
                heights[room] = max(heights[room], heights[other] + (0 if mutual else 1))
    return heights
