"""The training of a torch model on one worker: fit -> fit_loop -> run_epoch -> train_step.

The gradient of a step is that of the loss over the rows of all workers and of all batches that it accumulates, so that neither
their number nor how rows are divided changes much of what is learnt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from raydp_ml.errors import InvalidValueError
from raydp_ml.estimators.callbacks import Callback
from raydp_ml.estimators.epochs import plan_epoch
from raydp_ml.estimators.protocol import Checkpoint, Job, Reporter
from raydp_ml.estimators.torch.batches import Batch, Batches, TrainingRows, copies, without_single_rows
from raydp_ml.estimators.torch.checkpoints import go_on, state_of, take_training_state, training_state
from raydp_ml.estimators.torch.going_on import state_to_keep, take_state, with_weights_of
from raydp_ml.estimators.torch.gradients import Gradients
from raydp_ml.estimators.torch.losses import RowLoss
from raydp_ml.estimators.torch.model_inputs import Inputs
from raydp_ml.estimators.torch.models import batch_norms, build_module
from raydp_ml.estimators.torch.predicting import PREDICT_ROWS, n_outputs_of
from raydp_ml.estimators.torch.schedulers import Schedule
from raydp_ml.estimators.torch.settings import Settings
from raydp_ml.estimators.torch.shared_sums import SharedSums, average
from raydp_ml.estimators.torch.streamed import training_rows
from raydp_ml.estimators.torch.tally import Tally, Workers

__all__ = ["TrainingLoop"]

# A hook of a callback is called only where a class has overridden it, so that batches cost nothing where nobody looks at them.
_HOOKS = ("on_train_begin", "on_epoch_begin", "on_batch_begin", "on_batch_end", "on_epoch_end", "on_train_end")


class TrainingLoop:
    """One worker's training; callbacks see it, and a subclass given as ``loop`` of TorchEstimator changes it.

    ``fit`` makes model and optimizer and calls ``fit_loop``, which calls ``run_epoch`` for each epoch, which calls ``train_step``
    for each step of the optimizer, and that ``forward`` for each batch. Each of them may be overridden.

    Attributes
    ----------
    module : torch.nn.Module
        The model being trained.
    wrapped : torch.nn.Module
        What is called in training: the same, compiled or with its gradients averaged over workers where that was asked for.
    optimizer : torch.optim.Optimizer
        Its optimizer.
    scheduler : scheduler or None
        What changes the learning rate.
    job : Job
        The rows, and which of how many workers this is.
    device : torch.device
        Where the model computes.
    stop : bool
        Set it to end training after the epoch.
    epochs_done : int
        How many epochs had been made when this training began: those before the checkpoint that it goes on from.
    shuffling : torch.Generator
        What the order of the rows is drawn from.
    memory : dict
        What callbacks keep for this training, by callback.

    Examples
    --------
    A loop that adds noise to the rows that it trains on.

    >>> import numpy as np, torch
    >>> from raydp_ml import TorchEstimator
    >>> from raydp_ml.estimators.torch import TrainingLoop
    >>> class Noisy(TrainingLoop):
    ...     def forward(self, x):
    ...         return super().forward(x + 0.01 * torch.randn_like(x) if self.module.training else x)
    >>> X = np.linspace(-1, 1, 64, dtype="float32")[:, None]
    >>> est = TorchEstimator(torch.nn.Linear(1, 1), loss="mse", lr=0.1, num_epochs=50, loop=Noisy, verbose=False)
    >>> est.fit(X, 3 * X[:, 0]).score(X, 3 * X[:, 0]) > 0.9
    True
    """

    module: torch.nn.Module
    wrapped: Any
    optimizer: torch.optim.Optimizer

    def __init__(self, settings: Settings, job: Job, reporter: Reporter) -> None:
        self.settings, self.job, self.reporter = settings, job, reporter
        self.stop = False
        self.epochs_done = 0
        self.memory: dict[Callback, Any] = {}
        self.device = _device(job)
        self.workers = Workers(job.world_size, self.device)
        self.inputs = Inputs.of(settings.feature_types, job.features)
        classes = None if job.classes is None else len(job.classes)
        self.loss = RowLoss(settings.loss, settings.kind, classes, settings.label_type, settings.model_output)
        if isinstance(settings.loss, torch.nn.Module):
            settings.loss.to(self.device)
        self.train_rows = training_rows(job.train, self.device, self.inputs.layout)
        self.held_out = (
            None if job.validation is None else training_rows(job.validation, self.device, self.inputs.layout)
        )
        self._listening = {name: _overriding(settings.callbacks, name) for name in _HOOKS}

    # -- the story ---------------------------------------------------------------------------------------------------

    def fit(self) -> TrainingLoop:
        """Make model and optimizer, and train."""
        seed = self.job.seed
        threads = self.settings.threads or self.job.threads
        # In the user's process the random state and the number of threads are given back as they were.
        gpus = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=gpus) if seed is not None else nullcontext(), _threads(threads):
            if seed is not None:
                torch.manual_seed(seed)
            self.prepare()
            if seed is not None and self.job.rank:
                torch.manual_seed(seed + self.job.rank)  # dropout must not be the same on all workers
            self.notify("on_train_begin")
            if self.job.checkpoint is not None:
                self.go_on(self.job.checkpoint)
            self.fit_loop()
            self.notify("on_train_end")
        self.module.to("cpu").eval()
        return self

    def fit_loop(self) -> None:
        """All epochs that are left."""
        for epoch in range(self.epochs_done + 1, self.settings.epochs + 1):
            self.notify("on_epoch_begin", epoch)
            metrics = {"epoch": epoch, **self.run_epoch()}
            self.schedule.after_epoch(metrics)
            self.notify("on_epoch_end", metrics)
            self.reporter.report(metrics, partial(state_of, self))
            if self.stop:
                break

    def go_on(self, checkpoint: Checkpoint) -> None:
        """Take over what a checkpoint holds."""
        go_on(self, checkpoint)
        self.epochs_done = self.settings.epochs if self.stop else checkpoint.epoch

    def run_epoch(self) -> dict[str, float]:
        """One pass over the rows, and one over those held out."""
        self.wrapped.train()
        for layer in self._resting:
            layer.eval()
        tally = self.new_tally()
        for number, batches in enumerate(self.batches.steps(self.order())):
            self.notify("on_batch_begin", number)
            loss = self.train_step(batches, tally)
            if self.gradients.stepped:
                self.schedule.after_batch()
            self.notify("on_batch_end", number, loss)
        metrics = tally.result("train")
        if self.held_out is not None:
            metrics.update(self.validate(self.held_out))
        return metrics

    def train_step(self, batches: Sequence[Batch], tally: Tally) -> torch.Tensor:
        """One step of the optimizer: forward and backward over one batch, or over those that are accumulated.

        Parameters
        ----------
        batches : sequence of Batch
            The batches of the step.
        tally : Tally
            Takes their losses and outputs.

        Returns
        -------
        torch.Tensor
            The loss that was differentiated.
        """
        counted = self._counted_in_step(batches)
        found: list[tuple[Any, ...]] = []
        values: list[torch.Tensor] = []

        def compute() -> torch.Tensor:
            self.optimizer.zero_grad()
            parts = []
            for number, batch in enumerate(batches):
                with nullcontext() if number == len(batches) - 1 else self._without_exchange():
                    part, *rest = self._loss_of(batch, counted)
                    self.gradients.backward(part)
                parts.append(part.detach())
                found.append((batch, *rest))
            values.append(parts[0] if len(parts) == 1 else torch.stack(parts).sum())
            return self._mean_over_workers(values[-1]) if self.gradients.looks_again else values[-1]

        self.gradients.step(compute)
        for batch, loss, factor, count, prediction in found[: len(batches)]:
            if batch.count:
                tally.add(loss, factor, count, prediction, batch.y, batch.weight)
        return values[0]

    def forward(self, *args: torch.Tensor, **named: torch.Tensor) -> Any:
        """What the model gives, in training and in validation."""
        model = self.wrapped if self.module.training else self.module
        with self.gradients.computing():
            outputs = model(*args, **named)
        return self.gradients.full(outputs)

    def validate(self, rows: TrainingRows) -> dict[str, float]:
        """Loss and metrics on the rows held out."""
        self.module.eval()
        tally = self.new_tally()
        with torch.no_grad():
            for piece in rows.pieces(PREDICT_ROWS):
                part = rows.copied(piece.start, piece.stop).to(self.device)
                args, named = self.inputs(part.X)
                outputs, given = self.forward(*args, **named), _as_given(args, named)
                if part.weight is None:
                    loss, count = self.loss(outputs, part.y, given), self._counted(part.y)
                    factor = 1.0 if self.loss.sums else count
                else:
                    (loss, counted), factor = self.loss.weighted(outputs, part.y, part.weight, given), 1.0
                    count = float(counted)
                prediction = self.loss.prediction(outputs) if self.settings.metrics else None
                tally.add(loss, factor, count, prediction, part.y, part.weight)
        return tally.result("valid")

    # -- what the steps use ------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make model, optimizer, scheduler and batches."""
        job, settings = self.job, self.settings
        previous = job.previous
        n_outputs = n_outputs_of(job, settings.kind)
        self.module = build_module(settings.model, job.train.X.shape[1], n_outputs, settings.model_params)
        if previous is not None:
            self.module = with_weights_of(previous.module, self.module)
        self.module.to(self.device)
        if any(torch.nn.parameter.is_lazy(each) for each in self.module.parameters()):
            with torch.no_grad():  # lazy layers learn their sizes from rows
                args, named = self.inputs(self.train_rows.copied(0, 2).to(self.device).X)
                self.module.eval()(*args, **named)
        self.optimizer = settings.optimizer.build(self.module)
        if previous is not None and previous.optimizer_state is not None:
            take_state(self.optimizer, previous.optimizer_state)
        self.gradients = Gradients(settings, self.module, self.optimizer, self.device)
        sizes = plan_epoch(job.rows_per_rank or (len(job.train),), settings.batch_size, settings.drop_last)
        norms = batch_norms(self.module)
        sizes = without_single_rows(sizes) if norms else sizes
        # Where there is one row in all, these layers have nothing to normalise over, and do what they do when they predict.
        self._resting = norms if sizes.shape[1] == 1 and (sizes == 1).any() else []
        self.batches = Batches(self.train_rows, sizes, job.rank, settings.accumulate, self.device)
        steps = self.batches.steps_per_epoch * settings.epochs
        self.schedule = Schedule(settings.scheduler, self.optimizer, steps, settings.epochs)
        self.scheduler = self.schedule.scheduler
        self.wrapped = self._wrap()
        self.shuffling = torch.Generator()
        self.shuffling.manual_seed(int(torch.randint(2**62, ())) if job.seed is None else job.seed + job.rank)

    def order(self) -> torch.Tensor | None:
        """The order of the rows in the next epoch; None for that in which they lie."""
        if not self.settings.shuffle:
            return None
        return self.train_rows.order(self.shuffling)

    def new_tally(self) -> Tally:
        """What a pass over rows is counted in."""
        return Tally(self.settings.metrics, self.settings.kind, self.job.task, self.workers)

    def notify(self, hook: str, *given: Any) -> None:
        """Call a hook of the callbacks, in their order."""
        for callback in self._listening[hook]:
            getattr(callback, hook)(self, *given)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds besides what is random, on the first worker; a loop with more of its own to keep adds to it.

        Returns
        -------
        dict
            Tensors, numbers, strings, and lists and dicts of them.
        """
        return training_state(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave; called on every worker, after ``on_train_begin`` of the callbacks.

        Parameters
        ----------
        state : mapping
            What was written.
        """
        take_training_state(self, state)

    def optimizer_state(self) -> dict[str, Any]:
        """What the optimizer has gathered, for training on later."""
        kept: dict[str, Any] = state_to_keep(self.optimizer.state_dict())
        return kept

    # -- pieces ------------------------------------------------------------------------------------------------------

    def _wrap(self) -> Any:
        wrapped: Any = self.module
        if self.job.world_size > 1:
            on_gpu = self.device.type == "cuda"
            wrapped = torch.nn.parallel.DistributedDataParallel(
                self.module,
                device_ids=[self.device] if on_gpu else None,
                gradient_as_bucket_view=True,
                find_unused_parameters=self._leaves_out_parameters(),
            )
            sums = None if on_gpu else SharedSums.for_gradients(self.module)
            if sums is not None:
                wrapped.register_comm_hook(sums, average)
                self.workers = replace(self.workers, sums=sums)
        return wrapped if self.settings.compile is None else torch.compile(wrapped, **self.settings.compile)

    def _leaves_out_parameters(self) -> bool:
        """Whether the loss does not depend on all parameters, for which DistributedDataParallel would wait in vain."""
        parameters = [each for each in self.module.parameters() if each.requires_grad]
        self.module.eval()
        with torch.random.fork_rng(devices=[]):
            part = self.train_rows.copied(0, 2).to(self.device)
            args, named = self.inputs(part.X)
            try:
                loss = self.loss(self.forward(*args, **named), part.y, _as_given(args, named))
                found = torch.autograd.grad(loss, parameters, allow_unused=True)
            except Exception:
                # What cannot be computed of two rows may be of more, and what never can is said by the first step.
                found = ()
        return self.workers.total([float(any(each is None for each in found))])[0] > 0

    def _without_exchange(self) -> Any:
        """Gradients of all but the last batch of a step stay on their worker."""
        return self.wrapped.no_sync() if self.job.world_size > 1 else nullcontext()

    def _counted(self, y: torch.Tensor) -> float:
        """What the mean loss of rows without weights was divided by."""
        return float(self.loss.counted(y)) if self.loss.reduction.by_class else float(len(y))

    def _counted_in_step(self, batches: Sequence[Batch]) -> float | None:
        """What the mean loss of a step is divided by, on all workers; None where that is the number of rows."""
        alone = self.job.world_size == 1 and len(batches) == 1
        if batches[0].weight is None and (alone or not self.loss.reduction.by_class):
            return None
        own = sum(float(self.loss.counted(batch.y, batch.weight)) for batch in batches if batch.count)
        return self.workers.total([own])[0]

    def _loss_of(self, batch: Batch, counted: float | None) -> tuple[Any, Any, float, float, Any]:
        """What to differentiate; the loss, by what it is multiplied for the sum over rows, how much these count; the prediction.

        DistributedDataParallel averages gradients over workers, so each worker's loss is scaled for that average to be the
        gradient of the loss over all rows of the step.
        """
        # An optimizer that looks again finds the rows as they were, whatever the model did to them.
        args, named = self.inputs(copies(batch.X) if self.gradients.looks_again else batch.X)
        outputs, given = self.forward(*args, **named), _as_given(args, named)
        world = self.job.world_size
        if counted is None:
            loss = self.loss(outputs, batch.y, given)
            count = self._counted(batch.y) if batch.count else 0.0
            factor = 1.0 if self.loss.sums else count
            scale = world * (float(batch.count > 0) if self.loss.sums else batch.count / batch.of_step)
        else:
            weight = torch.ones(len(batch.y), device=self.device) if batch.weight is None else batch.weight
            weight = weight if batch.count else torch.zeros_like(weight)
            loss, own = self.loss.weighted(outputs, batch.y, weight, given)
            factor, count = 1.0, float(own)
            scale = world if self.loss.sums else world / max(counted, 1e-12)
        value = loss if scale == 1.0 else loss * scale
        # Predictions are for metrics alone.
        prediction = self.loss.prediction(outputs).detach() if self.settings.metrics else None
        return value, loss.detach(), factor, count, prediction

    def _mean_over_workers(self, value: torch.Tensor) -> torch.Tensor:
        """One value on all workers, because an optimizer that looks at it must decide alike on all of them."""
        if self.job.world_size > 1:
            torch.distributed.all_reduce(value)
            value /= self.job.world_size
        return value


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """So many threads for torch: several workers may share a machine, and their threads would fight for its cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _overriding(callbacks: Sequence[Callback], hook: str) -> list[Callback]:
    return [each for each in callbacks if getattr(type(each), hook) is not getattr(Callback, hook)]


def _as_given(args: tuple[torch.Tensor, ...], named: dict[str, torch.Tensor]) -> Any:
    """What ``forward`` was given, as a loss of three arguments takes it."""
    if not named:
        return args[0]
    return (args[0], named) if args else named


def _device(job: Job) -> torch.device:
    if not job.use_gpu:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InvalidValueError("use_gpu=True, but torch sees no GPU here")
    return torch.device("cuda", torch.cuda.current_device())
