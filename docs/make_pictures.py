"""Draws the pictures of the documentation: ``make docs``, or ``python docs/make_pictures.py [FOLDER]``.

The SVG files are the same on every run, so that a change in the repository is a change of the picture.
"""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

sys.path.insert(0, str(Path(__file__).parent))  # also where a test loads this file
from rooms import imports_of_rooms, levels

INK = "#24292f"
SPARK = "#fdebd9"
RAY = "#dcebfa"
OURS = "#e3f3e1"
PLAIN = "#f4f5f7"
MEASURED = Path(__file__).parent / "pictures" / "exchange.json"
# Bars of the chart: heading, then part, series and name of each.
BARS = {
    "DataFrame to Dataset": [
        ("files", "raydp_ml floor", "Spark only reads the rows", SPARK),
        ("peer", "raydp_ml from_spark", "raydp-ml", OURS),
        ("files", "files to_arrow", "toArrow", PLAIN),
        ("files", "files to_pandas", "toPandas, from_pandas", PLAIN),
        ("files", "files parquet", "parquet files", PLAIN),
        ("peer", "raydp from_spark", "RayDP 1.6.5", PLAIN),
    ],
    "Dataset to DataFrame, count": [
        ("peer", "raydp_ml to_spark_count", "raydp-ml", OURS),
        ("peer", "raydp to_spark_count", "RayDP 1.6.5", PLAIN),
    ],
    "Dataset to DataFrame, sum of all columns": [
        ("peer", "raydp_ml to_spark_sum", "raydp-ml", OURS),
        ("peer", "raydp to_spark_sum", "RayDP 1.6.5", PLAIN),
    ],
}


@dataclass(frozen=True)
class Box:
    """A rounded box; x and y are its lower left corner."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> tuple[float, float]:
        return self.x, self.y + self.height / 2

    @property
    def right(self) -> tuple[float, float]:
        return self.x + self.width, self.y + self.height / 2

    @property
    def top(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height

    @property
    def bottom(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y


def draw_box(axes: Axes, box: Box, title: str, text: str = "", colour: str = PLAIN, dashed: bool = False) -> Box:
    shape = FancyBboxPatch(
        (box.x, box.y),
        box.width,
        box.height,
        boxstyle="round,pad=0,rounding_size=1.2",
        facecolor=colour,
        edgecolor=INK,
        linewidth=1.0,
        linestyle="--" if dashed else "-",
    )
    axes.add_patch(shape)
    axes.text(box.x + 1.2, box.y + box.height - 1.2, title, va="top", ha="left", fontsize=9.5, weight="bold", color=INK)
    axes.text(
        box.x + 1.2, box.y + box.height - 3.9, text, va="top", ha="left", fontsize=8.2, color=INK, linespacing=1.4
    )
    return box


def draw_arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    text: str = "",
    at: tuple[float, float] | None = None,
    both: bool = False,
) -> None:
    style = {"arrowstyle": "<|-|>" if both else "-|>", "color": INK, "linewidth": 1.2, "shrinkA": 2, "shrinkB": 2}
    axes.annotate("", xy=end, xytext=start, arrowprops=style)
    if text:
        x, y = at or ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        white = {"facecolor": "white", "edgecolor": "none", "pad": 1.2}
        axes.text(x, y, text, ha="center", va="center", fontsize=8, color=INK, linespacing=1.3, bbox=white)


def new_figure(width: float, height: float) -> tuple[plt.Figure, Axes]:
    """Axes in tenths of an inch without a frame."""
    figure = plt.figure(figsize=(width / 10, height / 10))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return figure, axes


def draw_legend(axes: Axes, x: float, y: float) -> None:
    for i, (name, colour) in enumerate({"raydp-ml": OURS, "Spark": SPARK, "Ray": RAY}.items()):
        axes.add_patch(FancyBboxPatch((x + 11 * i, y), 2, 1.6, boxstyle="round,pad=0", facecolor=colour, edgecolor=INK))
        axes.text(x + 11 * i + 3, y + 0.8, name, va="center", fontsize=8, color=INK)


def processes() -> plt.Figure:
    """Which process starts which, and where the rows lie."""
    figure, axes = new_figure(112, 68)
    draw_box(axes, Box(2, 16, 31, 50), "driver: your process and its JVM")
    draw_box(axes, Box(4, 53, 27, 8), "your program", "pipelines, estimators, search", OURS)
    master = draw_box(
        axes, Box(4, 37, 27, 10), "master", "compares wanted with live\nexecutors, starts and stops hosts", OURS
    )
    jvm = draw_box(
        axes, Box(4, 18, 27, 10), "Spark driver JVM", "our scheduler backend asks\nthe master for executors", SPARK
    )
    draw_arrow(axes, jvm.top, master.bottom, "JSON lines over loopback", both=True)

    draw_box(axes, Box(47, 2, 63, 64), "Ray cluster", dashed=True)
    owner = draw_box(
        axes,
        Box(49, 53, 59, 8),
        "owner actor, one per application",
        "submits the tasks that make blocks: they live until it ends, and are rebuilt when lost",
        OURS,
    )
    draw_box(axes, Box(49, 4, 59, 44), "each node", dashed=True)
    host = draw_box(
        axes, Box(51, 33, 25, 10), "host actor", "holds CPU and memory in Ray;\nhands blocks to its JVM", OURS
    )
    executor = draw_box(
        axes,
        Box(51, 15, 25, 12),
        "executor JVM",
        "child of the host actor, they\nend together; starts Python\nworkers for UDFs",
        SPARK,
    )
    train = draw_box(axes, Box(83, 33, 23, 10), "Train workers, Tune trials", "map the blocks, fit models", RAY)
    store = draw_box(axes, Box(83, 19, 23, 8), "object store", "Arrow tables, shared memory", RAY)
    staging = draw_box(axes, Box(64, 5.5, 26, 7), "staging in /dev/shm", "Arrow files of one partition")
    draw_arrow(axes, master.right, host.left, "starts, stops,\nhears of ends", at=(40, 40.3))
    draw_arrow(axes, jvm.right, executor.left, "tasks, results\n(Spark's protocol)", at=(40, 22.2), both=True)
    draw_arrow(axes, host.bottom, executor.top, "starts it; passes blocks")
    draw_arrow(axes, (70, executor.y), (70, staging.y + staging.height))
    draw_arrow(axes, (87, staging.y + staging.height), (91, store.y), "task: from_spark", at=(95, 15.5))
    draw_arrow(axes, store.top, train.bottom)
    draw_arrow(axes, store.left, (host.x + host.width, host.y + 2), "to_spark", at=(80, 29))
    draw_arrow(axes, (79.5, owner.y), (79.5, 48), "tasks")
    draw_legend(axes, 4, 9)
    return figure


def data_path() -> plt.Figure:
    """The way of the rows, to a fitted estimator and to predictions."""
    figure, axes = new_figure(112, 29)
    frame = draw_box(axes, Box(2, 17, 17, 10), "Spark DataFrame", "parquet, CSV,\nSQL, joins", SPARK)
    stages = draw_box(axes, Box(26, 17, 18, 10), "Spark stages", "indexers, scalers,\nSQL, functions", SPARK)
    dataset = draw_box(axes, Box(56, 17, 18, 10), "Ray Dataset", "one matrix column,\nzero-copy blocks", RAY)
    fitted = draw_box(
        axes, Box(87, 17, 23, 10), "fitted estimator", "PyTorch, TensorFlow,\nXGBoost; saved, loaded", OURS
    )
    new = draw_box(axes, Box(2, 2, 17, 8), "new DataFrame", "of any session", SPARK)
    prediction = draw_box(
        axes, Box(56, 2, 54, 8), "DataFrame with predictions", "lazy, computed inside Spark's executors", SPARK
    )
    draw_arrow(axes, frame.right, stages.left)
    draw_arrow(axes, stages.right, dataset.left, "from_spark")
    draw_arrow(axes, dataset.right, fitted.left, "Ray Train,\nRay Tune")
    draw_arrow(axes, new.right, prediction.left, "fitted stages, then predict")
    draw_arrow(axes, (98, fitted.y), (98, prediction.y + prediction.height), "broadcast")
    draw_arrow(axes, (35, stages.y), (35, 7.2))
    return figure


def exchange() -> plt.Figure:
    """What `make bench-exchange` measured: seconds of the ways between Spark and Ray, and what a row costs."""
    results = json.loads(MEASURED.read_text())
    figure = plt.figure(figsize=(11.2, 4.6))
    draw_bars(figure.add_axes((0.19, 0.12, 0.42, 0.78)), results)
    draw_cost_per_row(figure.add_axes((0.70, 0.12, 0.28, 0.78)), results["sizes"])
    return figure


def draw_bars(axes: Axes, results: dict[str, Any]) -> None:
    y, ticks, names, longest = 0.0, [], [], 0.0
    for heading, bars in BARS.items():
        axes.text(0, y, heading, va="center", fontsize=9, weight="bold", color=INK)
        y += 1
        for part, series, name, colour in bars:
            # A part that was not measured anew is left out of the results.
            values = results.get(part, {"series": {}})["series"].get(f"{series} wall_s")
            if values is None:
                continue
            seconds = statistics.median(values)
            axes.barh(y, seconds, 0.72, color=colour, edgecolor=INK, linewidth=0.8)
            axes.text(seconds, y, f" {seconds:.2g} s", va="center", fontsize=8.2, color=INK)
            ticks.append(y)
            names.append(name)
            longest = max(longest, seconds)
            y += 1
        y += 0.4
    axes.set_yticks(ticks, names, fontsize=8.2, color=INK)
    axes.set(xlim=(0, longest * 1.15), ylim=(y - 0.6, -0.8))
    axes.set_title(f"{results['peer']['rows']:,} rows, 12 columns: seconds", fontsize=9.5, loc="left", color=INK)
    plain(axes)


def draw_cost_per_row(axes: Axes, sizes: dict[str, Any]) -> None:
    series = {rows: sizes["series"].get(f"raydp_ml {rows} from_spark us_per_row") for rows in sizes["rows"]}
    costs = {rows: statistics.median(values) for rows, values in series.items() if values}
    axes.plot(
        *zip(*costs.items(), strict=True), color=INK, marker="o", markersize=6, markerfacecolor=OURS, linewidth=1.2
    )
    for rows, cost in costs.items():
        axes.annotate(f"{cost:.2g}", (rows, cost), (0, 7), textcoords="offset points", ha="center", fontsize=8.2)
    axes.set_xscale("log")
    axes.set_xticks(list(costs), [f"{rows:,}" for rows in costs], fontsize=7.5, rotation=20)
    axes.minorticks_off()
    axes.set(ylim=(0, max(costs.values()) * 1.2), xlim=(min(costs) / 2, max(costs) * 2))
    axes.set_title("from_spark: microseconds per row, by rows", fontsize=9.5, loc="left", color=INK)
    plain(axes)


def plain(axes: Axes) -> None:
    axes.tick_params(axis="both", length=0, labelcolor=INK, labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def rooms() -> plt.Figure:
    """The rooms of the package, each above those that it imports."""
    imports = imports_of_rooms()
    heights = levels(imports)
    rows = [
        [room for room in sorted(imports) if heights[room] == height] for height in range(max(heights.values()) + 1)
    ]
    figure, axes = new_figure(112, 9 * len(rows) + 2)
    boxes = {}
    for height, row in enumerate(rows):
        width = min(22.0, 108 / len(row) - 3)
        for place, room in enumerate(row):
            x = 56 + (place - len(row) / 2) * (width + 3) + 1.5
            boxes[room] = Box(x, 9 * height + 2, width, 5)
    for room, others in sorted(imports.items()):
        for other in sorted(others):
            if heights[room] > heights[other]:
                axes.plot(
                    *zip(boxes[room].bottom, boxes[other].top, strict=True), color="#b6bdc6", linewidth=0.7, zorder=0
                )
    for room, box in boxes.items():
        draw_box(axes, box, room, colour=OURS)
    return figure


PICTURES = {"rooms": rooms, "processes": processes, "data_path": data_path, "exchange": exchange}


def draw_all(folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    plt.rcParams.update({"svg.hashsalt": "raydp-ml", "svg.fonttype": "none", "font.family": "DejaVu Sans"})
    files = []
    for name, draw in PICTURES.items():
        figure = draw()
        file = folder / f"{name}.svg"
        figure.savefig(file, metadata={"Date": None})
        plt.close(figure)
        files.append(file)
    return files


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "pictures"
    for drawn in draw_all(target):
        print(drawn)
