"""RayDP's TFEstimator over raydp_ml's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raydp.adapter import EstimatorAdapter


class TFEstimator(EstimatorAdapter):
    """A Keras model with RayDP's arguments; :class:`raydp_ml.TFEstimator` has more.

    Parameters
    ----------
    num_workers : int, default 1
        Ray Train workers.
    resources_per_worker : dict, optional
        Ray resources of each worker.
    model : keras.Model
        The model.
    optimizer : keras.optimizers.Optimizer or str
        The optimizer; None: Adam.
    loss : keras.losses.Loss or str
        What to minimise.
    metrics : list, optional
        Keras metrics or their names.
    feature_columns : str or list of str, optional
        The features; None: all numeric and vector columns but the label.
    label_columns : str or list of str
        The label; ``label_column`` is taken, too.
    merge_feature_columns : bool, default False
        Give the model all features as one matrix. A model with a single input gets them so in any case.
    batch_size : int, default 128
        Rows per step of each worker.
    drop_last : bool, default False
        Whether to leave out the rows that do not fill a batch.
    num_epochs : int, default 1
        How often training goes over the rows.
    shuffle : bool, default True
        Whether to shuffle the rows before each epoch.
    callbacks : list of keras.callbacks.Callback, optional
        Called on every worker.
    **extra_config
        Further arguments of :class:`raydp_ml.TFEstimator`.
    """

    def __init__(
        self,
        num_workers: int = 1,
        resources_per_worker: dict[str, float] | None = None,
        model: Any = None,
        optimizer: Any = None,
        loss: Any = None,
        metrics: Sequence[Any] | None = None,
        feature_columns: str | Sequence[str] | None = None,
        label_columns: str | Sequence[str] | None = None,
        merge_feature_columns: bool = False,
        batch_size: int = 128,
        drop_last: bool = False,
        num_epochs: int = 1,
        shuffle: bool = True,
        callbacks: Sequence[Any] | None = None,
        **extra_config: Any,
    ) -> None:
        from raydp_ml import TFEstimator as Estimator

        settings = {
            "num_workers": num_workers,
            "resources_per_worker": resources_per_worker,
            "model": model,
            "optimizer": "adam" if optimizer is None else optimizer,
            "loss": loss,
            "metrics": metrics,
            "feature_columns": feature_columns,
            "label_column": label_columns,
            "merge_feature_columns": merge_feature_columns or _has_one_input(model),
            "batch_size": batch_size,
            "drop_last": drop_last,
            "num_epochs": num_epochs,
            "shuffle": shuffle,
            "callbacks": callbacks,
        }
        super().__init__(Estimator, settings, extra_config)

    def fit(self, train_ds: Any, evaluate_ds: Any = None, max_retries: int = 0) -> Any:
        """As of the other estimators, with no retries unless asked for."""
        return super().fit(train_ds, evaluate_ds, max_retries)

    def fit_on_spark(  # type: ignore[override]  # RayDP has another order here than in its other estimators
        self,
        train_df: Any,
        evaluate_df: Any = None,
        fs_directory: str | None = None,
        compression: str | None = None,
        max_retries: int = 3,
        stop_spark_after_conversion: bool = False,
    ) -> Any:
        """As of the other estimators, with the files before the retries."""
        return super().fit_on_spark(
            train_df, evaluate_df, max_retries, fs_directory, compression, stop_spark_after_conversion
        )


def _has_one_input(model: Any) -> bool:
    """Whether a Keras model has a single input; a Sequential model has, built or not."""
    if any(base.__name__ == "Sequential" for base in type(model).__mro__):
        return True
    inputs = getattr(model, "inputs", None)
    return isinstance(inputs, list | tuple) and len(inputs) == 1
