"""Training that goes on with a Keras model: the weights of before, in the model as it is given now."""

from __future__ import annotations

import json
from typing import Any

from raydp_ml.errors import InvalidValueError

__all__ = ["same_layers", "take_weights"]


def same_layers(one: Any, other: Any) -> bool:
    """Whether two models are of the same layers with the same settings; names, which Keras counts up, do not matter."""
    return _described(one) == _described(other)


def _described(model: Any) -> list[str]:
    described = []
    for layer in model.layers:
        if hasattr(layer, "layers"):
            described += _described(layer)
            continue
        settings = {name: value for name, value in layer.get_config().items() if name != "name"}
        described.append(type(layer).__name__ + json.dumps(settings, sort_keys=True, default=str))
    return described


def take_weights(model: Any, trained: Any) -> None:
    """Give a model the weights of another one.

    Parameters
    ----------
    model : keras.Model
        What the parameter ``model`` says now; it is built.
    trained : keras.Model
        What the fit before made.

    Raises
    ------
    InvalidValueError
        When the weights do not fit.
    """
    now, before = ([tuple(each.shape) for each in one.weights] for one in (model, trained))
    if now != before:
        raise InvalidValueError(
            f"the model has changed since the fit before: its weights have the shapes {now}, and were {before}, so that training "
            "cannot go on with them; fit without warm_start"
        )
    model.set_weights(trained.get_weights())
