"""Writes the tables of what was measured in docs/exchange.md from docs/pictures/exchange.json: ``make docs``."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("exchange.md")
RESULTS = PAGE.parent / "pictures" / "exchange.json"
BEGIN = "<!-- measured: written by docs/make_measured.py -->\n"
END = "<!-- end of measured -->\n"
WHO = {"raydp_ml": "raydp-ml", "raydp": "RayDP 1.6.5", "files": "without either"}
WHAT = {
    "floor": "Spark only reads the rows",
    "from_spark": "`from_spark`",
    "read_numpy": "all blocks as numpy",
    "to_spark_count": "`to_spark`, count",
    "to_spark_sum": "`to_spark`, all columns summed",
    "small_blocks": "`to_spark`, count of 1,000 rows in 200 blocks",
    "parquet": "parquet written and read",
    "to_pandas": "`toPandas`, `from_pandas`",
    "to_arrow": "`toArrow`",
}
KINDS = {
    "rows": "of 10 doubles, an integer and a string",
    "floats": "of 100 floats",
    "vector": "of a vector of 128",
    "strings": "of 5 strings of 100 to 200 characters",
    "nested": "of a struct, an array of structs and a map",
}
MEMORY = {"driver_mb": "driver", "jvms_mb": "JVMs", "store_mb": "object store", "shm_mb": "`/dev/shm`"}


def written(results: dict[str, Any]) -> str:
    """All tables."""
    first = results["peer"]
    versions = first["versions"]
    lines = [
        f"raydp-ml with Spark {versions['pyspark']} and Ray {versions['ray']}, RayDP with {' and '.join(first['peer'][1:])}.",
        f"Measured on {first['cpus']} CPUs and {first['memory_gb']:.0f} GB of memory, {first['when']}.",
        "Those that are compared took turns in one run; figures are medians, with the smallest and the largest in brackets.",
        "Compare ratios and not seconds with another machine.",
        "",
    ]
    lines += table(
        ["to be reached", "measured", ""],
        [
            [target["target"], target["measured"], "reached" if target["reached"] else "not reached"]
            for part in results.values()
            for target in part["targets"]
        ],
    )
    held = f"{first['rows']:,} rows of 10 doubles, an integer and a string, which Spark holds in its cache"
    lines += ["", f"{held[0].upper()}{held[1:]}; memory is the peak in MB."]
    for part in ("peer", "files"):
        if part in results:
            heads = ["", "", "seconds", "CPU seconds", *MEMORY.values()]
            lines += ["", f"`{command(part)}`:", "", *table(heads, of_part(results[part]))]
    if "schemas" in results:
        lines += ["", f"`{command('schemas')}`: other columns, in seconds.", "", *schemas(results["schemas"])]
    if "nodes" in results:
        told = "on Ray nodes of this machine, each with one core and a staging folder of its own, in MB/s."
        lines += ["", f"`{command('nodes')}`: {told}", "", *nodes(results["nodes"])]
    lines += ["", f"`{command('sizes')}`: `from_spark` of 12 computed columns.", "", *sizes(results["sizes"])]
    return "\n".join(lines) + "\n"


def command(parts: str) -> str:
    return f"python benchmarks/exchange.py --parts {parts}"


def of_part(part: dict[str, Any]) -> list[list[str]]:
    series = part["series"]
    labels = dict.fromkeys(tuple(name.split(" ")[:2]) for name in series)
    return [
        [
            WHO[who],
            WHAT[what],
            spread(series[f"{who} {what} wall_s"]),
            short(series[f"{who} {what} cpu_s"]) if f"{who} {what} cpu_s" in series else "",
            *(f"{statistics.median(series[f'{who} {what} {memory}']):.0f}" for memory in MEMORY),
        ]
        for who, what in labels
    ]


def schemas(part: dict[str, Any]) -> list[str]:
    columns = [
        "raydp_ml floor",
        "raydp_ml from_spark",
        "raydp from_spark",
        "files parquet",
        "raydp_ml to_spark_sum",
        "raydp to_spark_sum",
    ]
    heads = [f"{WHO[who]}: {WHAT[what]}" for who, what in (column.split(" ") for column in columns)]
    rows = []
    for schema, number in part["rows"].items():
        names = [f"{who} {schema} {what}" for who, what in (column.split(" ") for column in columns)]
        cells = [cell(part, name) for name in names]
        rows.append([f"{number:,} {KINDS[schema]}", *cells])
    fails = [f"- {name}: `{why}`" for name, why in part["failures"].items()]
    return table(["rows", *heads], rows) + (["", *fails] if fails else [])


def nodes(part: dict[str, Any]) -> list[str]:
    works = ["from_spark", "to_spark_sum"]
    rates = {number: [part["series"].get(f"nodes {number} {work} mb_per_s") for work in works] for number in (2, 5)}
    rows = [[str(number), *(short(rate) if rate else "" for rate in both)] for number, both in rates.items()]
    return table(["nodes", *(WHAT[work] for work in works)], rows)


def cell(part: dict[str, Any], name: str) -> str:
    if f"{name} wall_s" in part["series"]:
        return short(part["series"][f"{name} wall_s"])
    return "fails" if name in part["failures"] else ""


def sizes(part: dict[str, Any]) -> list[str]:
    series = part["series"]
    names = {number: f"raydp_ml {number} from_spark" for number in part["rows"]}
    rows = [
        [f"{number:,}", spread(series[f"{name} wall_s"]), spread(series[f"{name} us_per_row"])]
        for number, name in names.items()
        if f"{name} wall_s" in series
    ]
    return table(["rows", "seconds", "microseconds per row"], rows)


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]


def short(values: list[float]) -> str:
    median = statistics.median(values)
    return f"{median:.0f}" if median >= 100 else f"{median:.2g}"


def spread(values: list[float]) -> str:
    return f"{short(values)} ({short([min(values)])} to {short([max(values)])})"


def with_tables(page: str) -> str:
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + written(json.loads(RESULTS.read_text())) + END + after


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
    sys.stdout.write(f"{PAGE}\n")
