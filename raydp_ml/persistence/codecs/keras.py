"""Keras objects, written by Keras itself; every module named in what it wrote is checked before Keras reads it back."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from raydp_ml.errors import InvalidValueError, require
from raydp_ml.persistence.codecs.codec import Codec, Reader, Writer
from raydp_ml.persistence.trust import Trust

__all__ = ["CODEC", "KerasCodec", "check_archive"]


class KerasCodec(Codec):
    """``$keras_model``: a ``.keras`` file. ``$keras``: the configuration of a layer, loss, metric or optimizer."""

    def encode(self, value: Any, writer: Writer) -> dict[str, Any] | None:
        keras = require("keras", "tensorflow")
        if isinstance(value, keras.Model):
            name, path = writer.attachments.new(".keras")
            value.save(path)
            return {"$keras_model": name}
        if callable(getattr(value, "get_config", None)) and type(value).__module__.partition(".")[0] == "keras":
            return {"$keras": keras.saving.serialize_keras_object(value)}
        return None

    def decode(self, tag: str, body: Any, reader: Reader) -> Any:
        if tag == "$keras_model":
            path = reader.attachments.find(body)
            own = check_archive(path, reader.trust)
            return require("keras", "tensorflow").saving.load_model(path, custom_objects=own, safe_mode=True)
        own = reader.trust.objects | _check_config(body, reader.trust)
        keras = require("keras", "tensorflow")
        return keras.saving.deserialize_keras_object(body, custom_objects=own, safe_mode=True)


CODEC = KerasCodec()


def check_archive(path: str | Path, trust: Trust) -> dict[str, Any]:
    """Refuse a ``.keras`` file that names classes outside Keras which the caller does not trust.

    Parameters
    ----------
    path : str or Path
        A file in Keras 3's format.
    trust : Trust
        Which other names may be used; :func:`raydp_ml.persistence.directory.current_trust` within a load.

    Returns
    -------
    dict
        Trusted classes and functions by name, as Keras's ``custom_objects``: Keras imports no modules but its own.

    Raises
    ------
    InvalidValueError
        When the file is no Keras archive, or names another class.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise InvalidValueError(
            f"{Path(path).name} in the saved directory is not a Keras model file: {error}"
        ) from error
    return trust.objects | _check_config(config, trust)


def _check_config(config: Any, trust: Trust) -> dict[str, Any]:
    """The user's own classes in a configuration; raises when one of them is not trusted."""
    own: dict[str, Any] = {}
    if isinstance(config, list):
        for item in config:
            own |= _check_config(item, trust)
    if not isinstance(config, dict):
        return own
    if "class_name" in config:
        module, kind = config.get("module"), config["class_name"]
        # Keras writes "builtins" for its own functions and None for what it finds by name in its own tables.
        from_keras = module in (None, "builtins") or module == "keras" or str(module).startswith("keras.")
        registered = config.get("registered_name")
        name = f"{module}.{kind}"
        if kind == "__lambda__" or (isinstance(registered, str) and ">" in registered) or not from_keras:
            trust_name = registered if from_keras and registered else name
            if not trust.covers(str(trust_name)):
                raise trust.refuse(str(trust_name))
            if not from_keras:
                own[registered or kind] = trust.resolve(name)
    for item in config.values():
        own |= _check_config(item, trust)
    return own
