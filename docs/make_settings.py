"""Writes the table of settings in docs/spark_on_ray.md from the registry that reads them: ``make docs``."""

from __future__ import annotations

import sys
from pathlib import Path

from raydp_ml.cluster.settings import REGISTRY

PAGE = Path(__file__).with_name("spark_on_ray.md")
BEGIN = "<!-- settings: written by docs/make_settings.py -->\n"
END = "<!-- end of settings -->\n"


def table() -> str:
    rows = ["| setting | what it does |", "| --- | --- |"]
    for setting in REGISTRY:
        default = "" if setting.default is None else f" (default: {setting.default:g})"
        rows.append(f"| `{setting.key}` | {setting.doc}{default} |")
    return "\n".join(rows) + "\n"


def with_table(page: str) -> str:
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + table() + END + after


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
    sys.stdout.write(f"{PAGE}\n")
