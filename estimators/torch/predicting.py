"""What a model gives for rows, without training; and a rehearsal of that before workers are started."""

from __future__ import annotations

import copy

import torch

from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.protocol import Job
from raydp_ml.estimators.torch.batches import as_tensor, tensors_of
from raydp_ml.estimators.torch.losses import ModelOutput, RowLoss
from raydp_ml.estimators.torch.model_inputs import Inputs
from raydp_ml.estimators.torch.models import build_module, prediction_of
from raydp_ml.estimators.torch.schedulers import Schedule
from raydp_ml.estimators.torch.settings import Settings
from raydp_ml.frames.layouts import Matrix, is_sparse
from raydp_ml.frames.sparse import dense_pieces

__all__ = ["PREDICT_ROWS", "n_outputs_of", "predict_in_batches", "rehearse"]

PREDICT_ROWS = 1 << 14
"""Rows that go through a model at once where nothing is learnt."""


def n_outputs_of(job: Job, kind: str | None) -> int:
    """How many outputs a model for this job has."""
    if job.classes is None:
        return 1 if job.train.y.ndim == 1 else job.train.y.shape[1]
    return 1 if kind in ("binary_logit", "binary_probability") else len(job.classes)


def predict_in_batches(
    module: torch.nn.Module,
    inputs: Inputs,
    X: Matrix,
    model_output: ModelOutput = None,
    *,
    use_gpu: bool = False,
) -> torch.Tensor:
    """The predictions of a model for rows, without gradients.

    Parameters
    ----------
    module : torch.nn.Module
        The model, on the CPU.
    inputs : Inputs
        How rows become arguments.
    X : Matrix
        The rows.
    model_output : int, str or callable, optional
        Which of the model's outputs is the prediction, or what makes it of them.
    use_gpu : bool
        Whether to compute on a GPU where there is one.
    """
    groups, device = tensors_of(X, inputs.layout), torch.device("cpu")
    if use_gpu and torch.cuda.is_available():
        device = torch.device("cuda")
        module = copy.deepcopy(module).to(device)
    parts = []
    with torch.no_grad():
        densified = is_sparse(X) and inputs.layout is torch.strided
        for rows in dense_pieces(X.shape[0], X.shape[1] if densified else 1, PREDICT_ROWS):
            args, named = inputs([group[rows].to(device, copy=True) for group in groups])
            parts.append(prediction_of(module(*args, **named), model_output).cpu())
    return torch.cat(parts)


def rehearse(settings: Settings, job: Job) -> None:
    """Try a model on a few rows, so that what cannot work is said before workers are started."""
    inputs = Inputs.of(settings.feature_types, job.features)
    n_outputs = n_outputs_of(job, settings.kind)
    module = build_module(settings.model, job.train.X.shape[1], n_outputs, settings.model_params).eval()
    args, named = inputs([group[:] for group in tensors_of(job.train.X, inputs.layout)])
    with torch.no_grad():
        try:
            outputs = module(*args, **named)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            shapes = [tuple(each.shape) for each in (*args, *named.values())]
            raise InvalidValueError(
                f"the model fails on inputs of shape {', '.join(map(str, shapes))} (rows, features): {error}"
            ) from error
        classes = None if job.classes is None else len(job.classes)
        loss = RowLoss(settings.loss, settings.kind, classes, settings.label_type, settings.model_output)
        loss.arguments(outputs, as_tensor(job.train.y), None)
        _check_prediction(prediction_of(outputs, settings.model_output), len(job.train))
    optimizer = settings.optimizer.build(module)
    Schedule(settings.scheduler, optimizer, steps=100 * settings.epochs, epochs=settings.epochs)


def _check_prediction(prediction: torch.Tensor, rows: int) -> None:
    """Raise for a prediction that has no entry, or none that a column can hold, for each row."""
    if prediction.ndim not in (1, 2) or len(prediction) != rows:
        raise InvalidValueError(
            f"the prediction for {rows} rows has the shape {tuple(prediction.shape)}; it must have a number, or as many numbers, "
            "for each row: give model_output, which says what is predicted"
        )
