"""A fitted module: how it predicts, and how it is saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from raydp_ml.errors import InvalidValueError, require
from raydp_ml.estimators.protocol import Fitted
from raydp_ml.estimators.torch.losses import ModelOutput, to_predictions
from raydp_ml.estimators.torch.optimizer_files import read_optimizer, write_optimizer
from raydp_ml.estimators.torch.skorch_nets import is_net, module_of
from raydp_ml.frames.columns import Feature
from raydp_ml.frames.layouts import Matrix
from raydp_ml.persistence.codecs.torch_modules import set_unsaved_buffers, unsaved_buffers

__all__ = ["TorchFitted"]

_FILE, _BUFFERS_FILE = "model.safetensors", "buffers.safetensors"


@dataclass
class TorchFitted(Fitted):
    """A fitted module."""

    module: Any
    kind: str | None
    task: str
    features: list[tuple[str, int]]
    feature_types: Any
    n_outputs: int
    optimizer_state: dict[str, Any] | None = None
    model_params: Mapping[str, Any] | None = None
    model_output: ModelOutput = None
    outputs: int | None = None
    use_gpu: bool = False
    modules: ClassVar[tuple[str, ...]] = (
        "raydp_ml.estimators.torch.model_inputs",
        "raydp_ml.estimators.torch.predicting",
        # What torch itself imports when it unpickles the first tensor (torch 2.13).
        "torch.utils.serialization.config",
        __name__,
    )
    reads_nulls: ClassVar[bool] = False

    @property
    def model(self) -> Any:
        """The module."""
        return self.module

    def typed(self, features: tuple[Feature, ...]) -> tuple[Feature, ...]:
        """The features in the types that ``feature_types`` asks for."""
        if self.feature_types is None:  # the usual case needs no torch
            return features
        from raydp_ml.estimators.torch.model_inputs import typed

        return typed(self.feature_types, features)

    def predict(self, X: Matrix) -> np.ndarray:
        """Probabilities, or values."""
        from raydp_ml.estimators.torch.model_inputs import Inputs
        from raydp_ml.estimators.torch.predicting import predict_in_batches

        inputs = Inputs.of(self.feature_types, [Feature(name, width) for name, width in self.features])
        self.module.eval()
        outputs = predict_in_batches(self.module, inputs, X, self.model_output, use_gpu=self.use_gpu)
        return to_predictions(outputs, self.kind, self.task)

    def write(self, directory: str) -> dict[str, Any]:
        """Write the weights, and the state of the optimizer, as safetensors."""
        from safetensors.torch import save_file

        # Copies, because tensors that share memory are refused.
        weights = {name: value.detach().cpu().contiguous().clone() for name, value in self.module.state_dict().items()}
        save_file(weights, Path(directory, _FILE))
        buffers = unsaved_buffers(self.module)
        if buffers:
            save_file(buffers, Path(directory, _BUFFERS_FILE))
        return {
            "kind": self.kind,
            "task": self.task,
            "features": [list(item) for item in self.features],
            "feature_types": self.feature_types,
            "n_outputs": self.n_outputs,
            "model_params": None if self.model_params is None else dict(self.model_params),
            "model_output": self.model_output,
            "use_gpu": self.use_gpu,
            "has_buffers": bool(buffers),
            "optimizer": None if self.optimizer_state is None else write_optimizer(self.optimizer_state, directory),
        }

    @classmethod
    def read(cls, directory: str, notes: dict[str, Any], model: Any = None) -> TorchFitted:
        """Read what ``write`` wrote into a model of the same build."""
        require("torch", "torch")
        from safetensors.torch import load_file

        from raydp_ml.estimators.torch.models import build_module

        features = [(name, width) for name, width in notes["features"]]
        params = notes.get("model_params")
        if is_net(model):
            model, params = module_of(model)
        module = build_module(model, sum(width for _, width in features), notes["n_outputs"], params)
        try:
            module.load_state_dict(load_file(Path(directory, _FILE)))
        except RuntimeError as error:
            raise InvalidValueError(f"the saved weights do not fit the model: {error}") from error
        # Directories that were saved before have none of what is got here.
        if notes.get("has_buffers"):
            set_unsaved_buffers(module, load_file(Path(directory, _BUFFERS_FILE)))
        optimizer_state = read_optimizer(notes.get("optimizer"), directory)
        module.eval()
        about = (notes["kind"], notes["task"], features, notes["feature_types"], notes["n_outputs"])
        return cls(
            module,
            *about,
            optimizer_state=optimizer_state,
            model_params=params,
            model_output=notes.get("model_output"),
            use_gpu=notes.get("use_gpu", False),
        )

    def for_prediction(self) -> TorchFitted:
        """This without what only training needs, to be sent to Spark and Ray."""
        return replace(self, optimizer_state=None)
