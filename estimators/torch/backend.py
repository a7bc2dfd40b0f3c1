"""PyTorch with the settings of one fit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from raydp_ml.estimators.protocol import Backend, Job, Reporter
from raydp_ml.estimators.tasks import predicts_probabilities
from raydp_ml.estimators.torch.fitted import TorchFitted
from raydp_ml.frames.columns import Feature

__all__ = ["TorchBackend"]


@dataclass
class TorchBackend(Backend):
    """PyTorch with the settings of one fit."""

    modules: ClassVar[tuple[str, ...]] = (
        "torch._dynamo",
        "raydp_ml.estimators.torch.loop",
        "raydp_ml.estimators.torch.backend",
    )

    settings: Any
    # What the model's forward takes, once it was looked at: a function makes a model for that.
    _arguments: Any = field(default=None, init=False, repr=False)
    _looked: bool = field(default=False, init=False, repr=False)

    def trainer_class(self, workers: int) -> Any:
        """The trainer that sets up torch's process group."""
        from ray.train.torch import TorchTrainer

        return TorchTrainer

    def typed(self, features: tuple[Feature, ...]) -> tuple[Feature, ...]:
        """The features in the types that ``feature_types`` asks for."""
        from raydp_ml.estimators.torch.model_inputs import typed

        return typed(self._types(features), features)

    def _types(self, features: tuple[Feature, ...]) -> Any:
        """``feature_types``, with the columns in it that the model's ``forward`` takes by name."""
        from raydp_ml.estimators.torch.arguments import arguments_of, types_by_name

        if not self._looked:
            width = sum(feature.width for feature in features)
            self._arguments = arguments_of(self.settings.model, self.settings.model_params, width)
            self._looked = True
        return types_by_name(self.settings.feature_types, self._arguments, features)

    def _settings_for(self, job: Job) -> Any:
        return replace(self.settings, feature_types=self._types(job.features))

    def rehearse(self, job: Job) -> None:
        """Make model, loss and optimizer, and try them on two rows, before workers are started."""
        from raydp_ml.estimators.torch.predicting import rehearse

        rehearse(self._settings_for(job), job)

    def train(self, job: Job, reporter: Reporter) -> TorchFitted:
        """Train on this worker's rows."""
        from raydp_ml.estimators.torch.predicting import n_outputs_of

        settings = self._settings_for(job)
        training = settings.loop(settings, job, reporter).fit()
        fitted = TorchFitted(
            module=training.module,
            kind=settings.kind,
            task=job.task,
            features=[(feature.name, feature.width) for feature in job.features],
            feature_types=settings.feature_types,
            n_outputs=n_outputs_of(job, settings.kind),
            model_params=settings.model_params,
            model_output=settings.model_output,
            use_gpu=job.use_gpu,
            optimizer_state=training.optimizer_state(),
        )
        if not predicts_probabilities(job.task):  # a model may predict another number of values than rows have labels
            shape = fitted.predict(job.train.X[:2]).shape
            fitted.outputs = shape[1] if len(shape) == 2 else 1
        return fitted
