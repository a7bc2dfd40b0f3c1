"""The parameters that the three estimators share, documented once; ``python -m docs.parameters`` writes them into the classes.

The text stands in each class all the same, because editors and ``help`` read it there. A test holds that it is this one.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SOURCES = {
    name: Path(__file__).parents[1] / "estimators" / backend / "estimator.py"
    for name, backend in (("TorchEstimator", "torch"), ("TFEstimator", "tf"), ("XGBEstimator", "xgb"))
}


@dataclass(frozen=True)
class Entry:
    """How one parameter, or a few that are said together, are documented.

    Parameters
    ----------
    kind : str
        Type and default.
    text : str
        What it means for each estimator that has it.
    more : dict of str to str
        What one estimator adds to that.
    """

    kind: str
    text: str
    more: Mapping[str, str] = field(default_factory=dict)

    def lines(self, names: str, estimator: str) -> list[str]:
        """The entry as it stands in the docstring of a class."""
        text = f"{self.text} {self.more.get(estimator, '')}".strip()
        return [
            f"    {names} : {self.kind}",
            *textwrap.wrap(text, 120, initial_indent=" " * 8, subsequent_indent=" " * 8),
        ]


COMMON = {
    "lr": Entry("float, default=1e-3", "Learning rate, for an optimizer given by name or class."),
    "batch_size": Entry("int, default=256", "Rows in a step, of all workers together."),
    "num_epochs": Entry("int, default=10", "Passes over the rows."),
    "shuffle": Entry("bool, default=True", "Whether to take the rows of a worker in another order in each epoch."),
    "drop_last": Entry(
        "bool, default=False", "Whether to leave out the rows at the end of an epoch that do not fill a batch."
    ),
    "early_stopping": Entry(
        "int, dict or EarlyStopping, optional",
        "Epochs without improvement after which to stop, or more about it: see :class:`raydp_ml.EarlyStopping`.",
    ),
    "class_weight": Entry('dict or "balanced", optional', "Weights by class."),
    "feature_columns": Entry(
        "str or list of str, optional",
        "Feature columns of a frame; None: all numeric and vector columns without another role.",
    ),
    "label_column, weight_column": Entry(
        "str, optional",
        "Columns of a frame. Several label columns make a regression with several outputs.",
        {"TorchEstimator": "With a loss of labels that are 0 or 1, they are several labels of a row."},
    ),
    "validation": Entry(
        "float, frame, tuple (X, y) or str, optional",
        "Rows to validate on: a fraction of the rows, a frame, arrays, or the name of a boolean column.",
    ),
    "prediction_column, probability_column": Entry("str", "Columns that predictions are appended as."),
    "null_features": Entry(
        '{"error", "skip", "null"}, default="error"',
        "What a null or NaN feature means: an error; the row is left out;",
        {
            "TorchEstimator": "training leaves it out and its prediction is null.",
            "TFEstimator": "training leaves it out and its prediction is null.",
            "XGBEstimator": "xgboost treats it as a missing value.",
        },
    ),
    "num_workers": Entry(
        "int, optional",
        "Number of Ray Train workers, 0 for this process. None: this process for arrays, pandas and pyarrow, one worker for "
        "Spark frames and Ray Datasets.",
    ),
    "use_gpu": Entry("bool, default=False", "Train on GPUs."),
    "resources_per_worker": Entry(
        "dict, optional",
        "Ray resources of each worker, which uses as many threads as it has CPUs. One with several GPUs becomes as many workers.",
    ),
    "scaling_config, run_config": Entry(
        "optional",
        "Ray Train's own configuration, for training on workers. FailureConfig and CheckpointConfig of the latter say how often "
        "workers start again, and which checkpoints stay.",
    ),
    "storage_path": Entry(
        "str, optional",
        "Where checkpoints are kept: a path that all workers see, or a URI that pyarrow.fs understands. A worker that dies goes on "
        "from the last one, and so does ``fit(..., resume=True)`` in a new process. None: there are none.",
    ),
    "checkpoint_every": Entry(
        "int, optional",
        "After how many",
        {
            "TorchEstimator": "epochs a checkpoint is written; None: after each one, 0: never.",
            "TFEstimator": "epochs a checkpoint is written; None: after each one, 0: never.",
            "XGBEstimator": "rounds a checkpoint is written; None: after every ten, 0: never.",
        },
    ),
    "max_retries": Entry("int, default=3", "How often training starts again when a worker dies."),
    "sparse": Entry(
        'bool or "auto", default="auto"',
        "Whether features are read in the sparse layout, in which only what is not zero takes memory, and zero and absent are one "
        'value. "auto": when X is of scipy.sparse, or a feature is an ML vector of more than 4096 elements.',
        {
            "TorchEstimator": "The model gets dense rows, made batch by batch, or sparse ones (``feature_types``).",
            "TFEstimator": "The model gets dense rows, made batch by batch.",
            "XGBEstimator": "xgboost takes that value as missing.",
        },
    ),
    "streaming": Entry(
        'bool or "auto", default="auto"',
        "Whether a worker has its rows on its disk and trains on them in chunks, in bounded memory: docs/training.md. "
        '"auto": when the rows of a Spark frame or a Ray Dataset would take more memory than a worker may have.',
        {
            "XGBEstimator": "Of streamed rows the matrix of bins is in memory, or with ``external_memory`` on disk.",
        },
    ),
    "warm_start": Entry(
        "bool, default=False",
        "Whether ``fit`` goes on from the present model.",
        {"XGBEstimator": "It adds ``num_boost_round`` rounds."},
    ),
    "random_state": Entry(
        "int, RandomState or None",
        "Seed of all that is random in training.",
        {
            "TorchEstimator": "That is the shuffling, weights that a class or function initialises, and dropout.",
            "TFEstimator": "It is set as ``keras.utils.set_random_seed`` does.",
        },
    ),
    "verbose": Entry(
        "bool, default=True",
        "Whether to print how training goes:",
        {
            "TorchEstimator": "a line per epoch.",
            "TFEstimator": "a line per epoch.",
            "XGBEstimator": "a line every few rounds.",
        },
    ),
}
"""Names as the docstrings list them, and what is said about them."""


def documented(source: str, estimator: str) -> str:
    """The source of an estimator's class with these entries in place of those that stand there."""
    for names, entry in COMMON.items():
        standing = re.compile(rf"^    {re.escape(names)} : .*\n(?:        .*\n)+", re.MULTILINE)
        text = "".join(f"{line}\n" for line in entry.lines(names, estimator))
        source = standing.sub(lambda _, text=text: text, source, count=1)
    return source


if __name__ == "__main__":
    for name, path in SOURCES.items():
        path.write_text(documented(path.read_text(), name))
