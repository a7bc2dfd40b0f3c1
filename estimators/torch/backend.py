"""PyTorch with the settings of one fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from raydp_ml.estimators.protocol import Backend, Job, Reporter
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

    def trainer_class(self, workers: int) -> Any:
        """The trainer that sets up torch's process group."""
        from ray.train.torch import TorchTrainer

        return TorchTrainer

    def typed(self, features: tuple[Feature, ...]) -> tuple[Feature, ...]:
        """The features in the types that ``feature_types`` asks for."""
        from raydp_ml.estimators.torch.model_inputs import typed

        return typed(self.settings.feature_types, features)

    def rehearse(self, job: Job) -> None:
        """Make model, loss and optimizer, and try them on two rows, before workers are started."""
        from raydp_ml.estimators.torch.predicting import rehearse

        rehearse(self.settings, job)

    def train(self, job: Job, reporter: Reporter) -> TorchFitted:
        """Train on this worker's rows."""
        from raydp_ml.estimators.torch.predicting import n_outputs_of

        training = self.settings.loop(self.settings, job, reporter).fit()
        return TorchFitted(
            module=training.module,
            kind=self.settings.kind,
            task=job.task,
            features=[(feature.name, feature.width) for feature in job.features],
            feature_types=self.settings.feature_types,
            n_outputs=n_outputs_of(job, self.settings.kind),
            model_params=self.settings.model_params,
            model_output=self.settings.model_output,
            use_gpu=job.use_gpu,
            optimizer_state=training.optimizer_state(),
        )
