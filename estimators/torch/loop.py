"""The training of a torch model on one worker: fit -> fit_loop -> run_epoch -> train_step.

Batches are global: ``batch_size`` rows are divided evenly among the workers (rounded up), and the gradient of a step is that
of the loss over the rows of all workers, so that the number of workers hardly changes what is learnt. In the last step of an
epoch workers may have fewer rows; their part counts for less, and a worker that has none left repeats rows with weight 0, so
that all workers make the same number of steps.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.callbacks import Callback
from raydp_ml.estimators.epochs import plan_epoch, share_of
from raydp_ml.estimators.protocol import Job, Reporter, Rows
from raydp_ml.estimators.torch.going_on import take_state, with_weights_of
from raydp_ml.estimators.torch.losses import RowLoss, to_predictions
from raydp_ml.estimators.torch.metrics import Metric
from raydp_ml.estimators.torch.parts import Inputs, OptimizerRecipe, SchedulerRecipe, build_module, tensor_of
from raydp_ml.frames.layouts import Matrix, groups_of, is_sparse
from raydp_ml.frames.sparse import dense_pieces

__all__ = ["Settings", "Training", "n_outputs_of", "predict_in_batches", "rehearse"]

_PREDICT_ROWS = 1 << 14


@dataclass
class Settings:
    """The settings of one fit."""

    model: Any
    optimizer: OptimizerRecipe
    loss: Callable[[Any, Any], Any]
    kind: str | None
    scheduler: SchedulerRecipe | None = None
    metrics: dict[str, Metric] = field(default_factory=dict)
    batch_size: int = 256
    epochs: int = 10
    shuffle: bool = True
    drop_last: bool = False
    callbacks: list[Callback] = field(default_factory=list)
    feature_types: Any = None
    label_type: Any = None


@dataclass
class _Tensors:
    """Rows as tensors; ``X`` has one for each type of features, or what makes dense tensors of sparse rows; ``pieces`` are
    as many rows as a model is given at once where it does not train.
    """

    X: tuple[Any, ...]
    pieces: list[slice]
    y: torch.Tensor
    weight: torch.Tensor | None

    def __len__(self) -> int:
        return len(self.y)


class Training:
    """One worker's training; callbacks see it.

    Attributes
    ----------
    module : torch.nn.Module
        The model being trained.
    optimizer : torch.optim.Optimizer
        Its optimizer.
    stop : bool
        Set it to end training after the epoch.
    memory : dict
        What callbacks keep for this training, by callback.
    """

    def __init__(self, settings: Settings, job: Job, reporter: Reporter) -> None:
        self.settings, self.job, self.reporter = settings, job, reporter
        self.stop = False
        self.memory: dict[Callback, Any] = {}
        self.device = _device(job)
        self.inputs = Inputs.of(settings.feature_types, job.features)
        classes = None if job.classes is None else len(job.classes)
        self.loss = RowLoss(settings.loss, settings.kind, classes, settings.label_type)
        if isinstance(settings.loss, torch.nn.Module):
            settings.loss.to(self.device)
        self.train_rows = self._tensors(job.train)
        self.held_out = None if job.validation is None else self._tensors(job.validation)
        self.share = share_of(settings.batch_size, job.world_size)
        self.sizes = plan_epoch(job.rows_per_rank or (len(job.train),), settings.batch_size, settings.drop_last)

    # -- fit ---------------------------------------------------------------------------------------------------------

    def fit(self) -> Training:
        """Make model and optimizer, and train."""
        seed = self.job.seed
        if self.job.threads is not None:
            # Several workers may share a machine, and torch's threads would fight for its cores.
            torch.set_num_threads(self.job.threads)
        # In the user's process the random state is given back as it was.
        with torch.random.fork_rng(devices=[]) if seed is not None else nullcontext():
            if seed is not None:
                torch.manual_seed(seed)
            self._make()
            if seed is not None and self.job.rank:
                torch.manual_seed(seed + self.job.rank)  # dropout must not be the same on all workers
            for callback in self.settings.callbacks:
                callback.on_train_begin(self)
            self.fit_loop()
            for callback in self.settings.callbacks:
                callback.on_train_end(self)
        self.module.to("cpu").eval()
        return self

    def fit_loop(self) -> None:
        """All epochs."""
        for epoch in range(1, self.settings.epochs + 1):
            metrics = {"epoch": epoch, **self.run_epoch()}
            self._step_scheduler(metrics)
            for callback in self.settings.callbacks:
                callback.on_epoch_end(self, metrics)
            self.reporter.report(metrics)
            if self.stop:
                break

    def run_epoch(self) -> dict[str, float]:
        """One pass over the rows, and one over those held out."""
        self.wrapped.train()
        order = self._order()
        tally = _Tally(self)
        for step, real in enumerate(self.sizes[self.job.rank]):
            tally.add(*self.train_step(order, step, int(real)))
        metrics = tally.result("train")
        if self.held_out is not None:
            metrics.update(self.validate(self.held_out))
        return metrics

    def train_step(self, order: torch.Tensor | None, step: int, real: int) -> tuple[float, float, Any, Any, Any]:
        """One batch: forward, backward, step. Returns the rows' losses and what they count, summed; outputs, labels, weights."""
        start = step * self.share
        rows = slice(start, start + real) if real else slice(0, min(self.share, len(self.train_rows)))
        X, y, weight = self._batch(order, rows)
        found: list[tuple[float, float, Any]] = []
        looks_again = isinstance(self.optimizer, torch.optim.LBFGS)

        def forward_and_backward() -> Any:
            self.optimizer.zero_grad()
            args, named = self.inputs(_copied(X) if looks_again else X)
            outputs = tensor_of(self.wrapped(*args, **named))
            value, loss, count = self._step_loss(outputs, y, weight, step, real)
            value.backward()
            found.append((loss, count, outputs))
            return value

        if looks_again:  # this one computes the loss several times in a step
            self.optimizer.step(forward_and_backward)
        else:
            forward_and_backward()
            self.optimizer.step()
        loss, count, outputs = found[0]
        if real:
            return loss, count, outputs, y, weight
        return 0.0, 0.0, outputs[:0], y[:0], None if weight is None else weight[:0]

    def validate(self, rows: _Tensors) -> dict[str, float]:
        """Loss and metrics on the rows held out."""
        self.wrapped.eval()
        tally = _Tally(self)
        with torch.no_grad():
            for part in rows.pieces:
                # A model may change its input, which is the user's array here.
                X, y = _copied(group[part] for group in rows.X), rows.y[part]
                weight = None if rows.weight is None else rows.weight[part]
                args, named = self.inputs(X)
                outputs = tensor_of(self.module(*args, **named))
                if weight is None:
                    count = self.loss.counted(outputs, y) if self.loss.reduction.by_class else len(y)
                    value = float(self.loss(outputs, y)) * (1 if self.loss.sums else count)
                else:
                    value, count = map(float, self.loss.weighted(outputs, y, weight))
                tally.add(value, count, outputs, y, weight)
        return tally.result("valid")

    def optimizer_state(self) -> dict[str, Any]:
        """What the optimizer has gathered, for training on later."""
        return copy.deepcopy(self.optimizer.state_dict())

    # -- pieces ------------------------------------------------------------------------------------------------------

    def _make(self) -> None:
        job, settings = self.job, self.settings
        n_outputs = n_outputs_of(job, settings.kind)
        previous = job.previous
        self.module = build_module(settings.model, job.train.X.shape[1], n_outputs)
        if previous is not None:
            self.module = with_weights_of(previous.module, self.module)
        self.module.to(self.device)
        if any(torch.nn.parameter.is_lazy(each) for each in self.module.parameters()):
            with torch.no_grad():  # lazy layers learn their sizes from rows
                args, named = self.inputs([group[:2] for group in self.train_rows.X])
                self.module.eval()(*args, **named)
        self.optimizer = settings.optimizer.build(self.module)
        if previous is not None and previous.optimizer_state is not None:
            take_state(self.optimizer, previous.optimizer_state)
        self.scheduler = None if settings.scheduler is None else settings.scheduler.build(self.optimizer)
        self.wrapped = self.module
        if job.world_size > 1:
            self.wrapped = torch.nn.parallel.DistributedDataParallel(
                self.module, device_ids=[self.device] if self.device.type == "cuda" else None
            )
        seed = job.seed
        self._shuffling = torch.Generator()
        self._shuffling.manual_seed(int(torch.randint(2**62, ())) if seed is None else seed + job.rank)

    def _tensors(self, rows: Rows) -> _Tensors:
        return _Tensors(
            _groups(rows.X, self.device),
            _pieces(rows.X),
            _tensor(rows.y).to(self.device),
            None if rows.weight is None else _tensor(rows.weight).to(self.device),
        )

    def _order(self) -> torch.Tensor | None:
        if not self.settings.shuffle:
            return None
        return torch.randperm(len(self.train_rows), generator=self._shuffling).to(self.device)

    def _batch(self, order: torch.Tensor | None, rows: slice) -> tuple[Any, Any, Any]:
        """Rows of the shard, copied: a model may change its input, and the shard's memory may be read-only."""
        held = self.train_rows
        if order is not None:
            chosen = order[rows]
            X = tuple(group[chosen] for group in held.X)
            return X, held.y[chosen], None if held.weight is None else held.weight[chosen]
        X = _copied(group[rows] for group in held.X)
        return X, held.y[rows], None if held.weight is None else held.weight[rows]

    def _step_loss(self, outputs: Any, y: Any, weight: Any, step: int, real: int) -> tuple[Any, float, float]:
        """What to differentiate, and the sums of this worker's losses and weights.

        DistributedDataParallel averages gradients over workers, so each worker's loss is scaled for that average to be the
        gradient of the loss over all rows of the step.
        """
        world = self.job.world_size
        if weight is None:
            if world > 1 and self.loss.reduction.by_class:  # only the workers together know what to divide by
                weight = torch.ones(len(y), device=self.device)
            else:
                return self._step_loss_without_weights(outputs, y, step, real)
        if not real:
            weight = torch.zeros_like(weight)
        value, count = self.loss.weighted(outputs, y, weight)
        own = float(count)
        if self.loss.sums:
            return value * world, float(value.detach()), own
        if world > 1:
            torch.distributed.all_reduce(count)
        return value * (world / count.clamp_min(1e-12)), float(value.detach()), own

    def _step_loss_without_weights(self, outputs: Any, y: Any, step: int, real: int) -> tuple[Any, float, float]:
        world = self.job.world_size
        value = self.loss(outputs, y)
        count = self.loss.counted(outputs, y) if self.loss.reduction.by_class else float(real)
        total = float(value.detach()) * (1 if self.loss.sums else count)
        if world > 1:
            part = float(real > 0) if self.loss.sums else real / self.sizes[:, step].sum()
            value = value * (world * part)
        return value, total, count

    def _step_scheduler(self, metrics: dict[str, float]) -> None:
        if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step(metrics.get("valid_loss", metrics["train_loss"]))
        elif self.scheduler is not None:
            self.scheduler.step()

    def total(self, values: Sequence[float]) -> list[float]:
        """Numbers summed over the workers."""
        if self.job.world_size == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(summed)
        return summed.tolist()


class _Tally:
    """Loss and metrics of a pass, over all workers."""

    def __init__(self, training: Training) -> None:
        self._training = training
        self._loss = self._count = 0.0
        self._outputs: list[Any] = []
        self._labels: list[Any] = []
        self._weights: list[Any] = []

    def add(self, loss: float, count: float, outputs: Any, y: Any, weight: Any) -> None:
        self._loss += loss
        self._count += count
        if self._training.settings.metrics:
            self._outputs.append(outputs.detach())
            self._labels.append(y)
            if weight is not None:
                self._weights.append(weight)

    def result(self, side: str) -> dict[str, float]:
        training = self._training
        loss, count = training.total([self._loss, self._count])
        found = {f"{side}_loss": loss / max(count, 1e-12)}
        if training.settings.metrics:
            outputs, labels = torch.cat(self._outputs), torch.cat(self._labels).cpu().numpy()
            predicted = to_predictions(outputs, training.settings.kind, training.job.task)
            weight = torch.cat(self._weights).cpu().numpy() if self._weights else None
            for name, metric in training.settings.metrics.items():
                here = float(metric.count(labels, weight))
                value = metric(labels, predicted, weight) * here if here else 0.0
                value, rows = training.total([value, here])
                found[f"{side}_{name}"] = value / max(rows, 1e-12)
        return found


def rehearse(settings: Settings, job: Job) -> None:
    """Try a model on a few rows, so that what cannot work is said before workers are started."""
    inputs = Inputs.of(settings.feature_types, job.features)
    module = build_module(settings.model, job.train.X.shape[1], n_outputs_of(job, settings.kind)).eval()
    args, named = inputs([_tensor(group) for group in groups_of(job.train.X)])
    with torch.no_grad():
        try:
            outputs = module(*args, **named)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            shapes = [tuple(each.shape) for each in (*args, *named.values())]
            raise InvalidValueError(
                f"the model fails on inputs of shape {', '.join(map(str, shapes))} (rows, features): {error}"
            ) from error
        classes = None if job.classes is None else len(job.classes)
        loss = RowLoss(settings.loss, settings.kind, classes, settings.label_type)
        loss.target(tensor_of(outputs), _tensor(job.train.y))
    settings.optimizer.build(module)


def n_outputs_of(job: Job, kind: str | None) -> int:
    """How many outputs a model for this job has."""
    if job.classes is None:
        return 1 if job.train.y.ndim == 1 else job.train.y.shape[1]
    return 1 if kind in ("binary_logit", "binary_probability") else len(job.classes)


def predict_in_batches(module: torch.nn.Module, inputs: Inputs, X: Matrix) -> torch.Tensor:
    """The outputs of a model for rows, without gradients."""
    groups = _groups(X, torch.device("cpu"))
    with torch.no_grad():
        parts = []
        for piece in _pieces(X):
            args, named = inputs(_copied(group[piece] for group in groups))
            parts.append(module(*args, **named))
        return torch.cat(parts)


class _Densified:
    """Sparse rows that are dense tensors where they are asked for."""

    def __init__(self, rows: Any, device: torch.device) -> None:
        self._rows, self._device = rows, device

    def __getitem__(self, rows: Any) -> torch.Tensor:
        chosen = rows.cpu().numpy() if isinstance(rows, torch.Tensor) else rows
        return torch.from_numpy(self._rows[chosen].toarray()).to(self._device)


def _groups(X: Matrix, device: torch.device) -> tuple[Any, ...]:
    """The matrices of features on a device."""
    if is_sparse(X):
        return (_Densified(X, device),)
    return tuple(_tensor(group).to(device) for group in groups_of(X))


def _pieces(X: Matrix) -> list[slice]:
    """Pieces of rows that a model is given at once where it does not train."""
    rows, width = X.shape
    return dense_pieces(rows, width if is_sparse(X) else 1, _PREDICT_ROWS)


def _copied(groups: Iterable[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    return tuple(group.clone() for group in groups)


def _tensor(values: np.ndarray) -> torch.Tensor:
    with warnings.catch_warnings():
        # Arrays from Ray's store are read-only, which torch warns of; batches are copies, nothing writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.asarray(values))


def _device(job: Job) -> torch.device:
    if not job.use_gpu:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InvalidValueError("use_gpu=True, but torch sees no GPU here")
    return torch.device("cuda", torch.cuda.current_device())
