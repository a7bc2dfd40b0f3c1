"""The pictures of the flights example."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pandas as pd
from flights_data import LABEL
from sklearn.metrics import roc_curve

from raydp_ml import SparkRayPipeline

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def draw_roc(rows: list[dict], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(6, 5), layout="constrained")
    for row in rows:
        false_alarms, hits, _ = roc_curve(row["told"][LABEL], row["told"]["p"])
        axes.plot(false_alarms, hits, label=f"{row['model']} ({row['test AUC']:.3f})")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="false alarms", ylabel="late flights found", title="Late arrivals, October to December")
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_learning_curves(pipelines: dict[str, SparkRayPipeline], path: Path) -> None:
    figure, all_axes = plt.subplots(1, len(pipelines), figsize=(5 * len(pipelines), 4), layout="constrained")
    for axes, (name, pipeline) in zip(all_axes, pipelines.items(), strict=True):
        history = pd.DataFrame(pipeline.named_steps["model"].history_).set_index("epoch")
        for column in history.columns:
            if column.startswith(("train_", "valid_")):
                axes.plot(history.index, history[column], label=column.replace("_", " "))
        axes.set(xlabel="epoch or boosting round", title=name)
        axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
