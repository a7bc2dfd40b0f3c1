"""Small configuration objects of any library, written as their class and its arguments."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from raydp_ml.persistence.bounded_json import check_names
from raydp_ml.persistence.codecs.codec import CannotEncodeError, Codec, Reader, Writer
from raydp_ml.persistence.names import public_name, refers_back
from raydp_ml.persistence.trust import Trust

__all__ = ["CODEC", "OWN_CALLBACKS", "ObjectCodec", "written"]

OWN_CALLBACKS = ("raydp_ml.Callback", "raydp_ml.EarlyStopping")
"""The callbacks of this package, by their public names; each keeps its arguments under their own names."""
# Objects that may be rebuilt from their arguments; they do nothing until something is trained with them.
_SAFE = ("xgboost.callback.EarlyStopping", "xgboost.callback.EvaluationMonitor", *OWN_CALLBACKS)
_SAFE_RAY_CONFIGS = ("ScalingConfig", "RunConfig", "CheckpointConfig", "FailureConfig")


class ObjectCodec(Codec):
    """``$object``: the class of an object and the arguments that make an equal one."""

    def encode(self, value: Any, writer: Writer) -> dict[str, Any]:
        return written(value, _arguments(value), writer)

    def decode(self, tag: str, body: Any, reader: Reader) -> Any:
        kind = _class_of(body["class"], reader.trust)
        check_names(body["params"], "an argument")
        return kind(**{name: reader.decode(item) for name, item in body["params"].items()})


CODEC = ObjectCodec()


def written(value: Any, arguments: dict[str, Any], writer: Writer) -> dict[str, Any]:
    """The written form of an object that these arguments of its class make.

    Parameters
    ----------
    value : object
        The object.
    arguments : dict
        Arguments by name.
    writer : Writer
        How the arguments are written.
    """
    params = {name: writer.encode(item) for name, item in arguments.items()}
    return {"$object": {"class": public_name(type(value)), "params": params}}


def _arguments(value: Any) -> dict[str, Any]:
    kind = type(value)
    name = public_name(kind)
    if dataclasses.is_dataclass(value) and _is_ray_config(name):
        # Only what differs from the defaults is written, because later versions may drop or rename the others.
        defaults = kind()
        return {
            field.name: getattr(value, field.name)
            for field in dataclasses.fields(value)
            if field.init and getattr(value, field.name) != getattr(defaults, field.name)
        }
    if refers_back(kind):
        if callable(getattr(value, "get_params", None)):
            params: dict[str, Any] = value.get_params(deep=False)
            return params
        found = _plain_arguments(value)
        if found is not None:
            return found
    raise CannotEncodeError(f"an instance of {name}")


def _plain_arguments(value: Any) -> dict[str, Any] | None:
    """Constructor arguments of a small object that keeps them as attributes, or None when a copy would differ."""
    try:
        parameters = inspect.signature(type(value).__init__).parameters
    except (TypeError, ValueError):
        return None
    names = list(parameters)[1:]
    flexible = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if type(value).__init__ is object.__init__:
        names = []
    elif any(parameters[name].kind in flexible for name in names):
        return None
    state = getattr(value, "__dict__", None)
    if state is None:
        return None
    arguments = {}
    for name in names:
        kept = next((key for key in (name, "_" + name) if key in state), None)
        if kept is not None:
            arguments[name] = state[kept]
        elif parameters[name].default is inspect.Parameter.empty:
            return None
    try:
        again = type(value)(**arguments)
        same = bool(vars(again) == state)
    except Exception:  # any constructor may run here: one that fails or cannot be compared is no plain object
        return None
    return arguments if same else None


def _is_ray_config(name: str) -> bool:
    return name.startswith("ray.") and name.rpartition(".")[2] in _SAFE_RAY_CONFIGS


def _class_of(name: Any, trust: Trust) -> Any:
    """The class of a written object, when the rules allow to make one."""
    if trust.covers(name) or name in _SAFE:
        return trust.resolve(name)
    if _is_ray_config(name):
        kind = Trust([name]).resolve(name)
        if dataclasses.is_dataclass(kind):
            return kind
    raise trust.refuse(name)
