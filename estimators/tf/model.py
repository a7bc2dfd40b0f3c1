"""Keras models as data: a quiet import of Keras, models packed into bytes and opened again, what a loss says of its task.

Nothing here imports TensorFlow before a model is packed, opened or trained.
"""

import difflib
import logging
import os
import re
import sys
import tempfile
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle

from raydp_ml.errors import InvalidTypeError, InvalidValueError, RaydpMLError, require
from raydp_ml.estimators.model_functions import call_with_sizes

_log = logging.getLogger("raydp_ml.estimators")

# What TensorFlow's libraries print while they are loaded, before any log level applies to them.
_GREETING = re.compile(rb"WARNING: All log messages before absl::InitializeLog|I0000 .*oneDNN custom operations are on")

_CLASSIFICATION_LOSSES = {
    "binary": {"binarycrossentropy", "bce", "binaryfocalcrossentropy"},
    "categorical": {"categoricalcrossentropy", "categoricalfocalcrossentropy"},
    "sparse": {"sparsecategoricalcrossentropy"},
}
_REGRESSION_LOSSES = {
    *("meansquarederror", "mse", "meanabsoluteerror", "mae", "meanabsolutepercentageerror", "mape"),
    *("meansquaredlogarithmicerror", "msle", "logcosh", "huber", "poisson"),
}


# Names that Keras turns into a loss or a metric when it sees labels and outputs.
_RESOLVED_LATER = ("accuracy", "acc", "crossentropy", "ce")


@contextmanager
def _without_greeting() -> Iterator[None]:
    """Hold back what is written to file descriptor 2, then write it out without TensorFlow's greeting."""
    try:
        real = os.dup(2)
    except OSError:  # a process without stderr prints nothing either
        yield
        return
    with tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            os.close(real)
            held.seek(0)
            for line in held:
                if not _GREETING.match(line):
                    os.write(2, line)


def import_keras() -> types.ModuleType:
    """Import TensorFlow and Keras 3 without their greeting, and see that Keras runs on TensorFlow.

    Returns
    -------
    module
        The ``keras`` module.

    Raises
    ------
    MissingDependencyError
        When TensorFlow is not installed.
    RaydpMLError
        When Keras runs on another backend, or is older than Keras 3.
    """
    if "keras" not in sys.modules or "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        with _without_greeting():
            tensorflow = require("tensorflow", "tensorflow")
            require("keras", "tensorflow")
        # Ray and Spark say so in each worker process how many cores are its own; TensorFlow would take all.
        cores = os.environ.get("OMP_NUM_THREADS", "")
        if cores.isdigit() and int(cores):
            tensorflow.config.threading.set_intra_op_parallelism_threads(int(cores))
            tensorflow.config.threading.set_inter_op_parallelism_threads(max(2, int(cores)))
    keras = sys.modules["keras"]
    if keras.__version__.startswith(("1.", "2.")):
        raise RaydpMLError(f'TFEstimator needs Keras 3, found {keras.__version__}; pip install "keras>=3"')
    if keras.backend.backend() != "tensorflow":
        raise RaydpMLError(
            f"TFEstimator needs Keras on TensorFlow, and it runs on {keras.backend.backend()!r}; "
            "set the environment variable KERAS_BACKEND=tensorflow before keras is imported"
        )
    return keras


def set_threads(cores: int, use_gpu: bool) -> None:
    """Set up TensorFlow in a worker process: as many threads as it has cores, its GPUs or none.

    Parameters
    ----------
    cores : int
        Cores of this worker.
    use_gpu : bool
        Whether to use the GPUs that are visible here.
    """
    tensorflow = require("tensorflow", "tensorflow")
    try:
        tensorflow.config.threading.set_intra_op_parallelism_threads(cores)
        tensorflow.config.threading.set_inter_op_parallelism_threads(max(2, cores))
        gpus = tensorflow.config.list_physical_devices("GPU")
        if not use_gpu:
            tensorflow.config.set_visible_devices([], "GPU")
        for gpu in gpus if use_gpu else ():
            tensorflow.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError as error:  # an earlier fit in this process has started TensorFlow
        _log.debug("TensorFlow keeps its threads and devices: %s", error)


# -- losses --------------------------------------------------------------------------------------------------------


def loss_name(loss: Any) -> str:
    """Spell the name of a loss (a name, a function or a Keras object) in one way.

    Examples
    --------
    >>> loss_name("binary_crossentropy"), loss_name("BinaryCrossentropy")
    ('binarycrossentropy', 'binarycrossentropy')
    """
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", None) or type(loss).__name__
    return name.replace("_", "").lower()


def loss_kind(loss: Any) -> str | None:
    """Say what a loss expects of labels and outputs.

    Returns
    -------
    str or None
        ``"binary"``, ``"categorical"`` or ``"sparse"`` for classification, ``"regression"``, or None when the loss is
        not one that Keras brings for either.

    Examples
    --------
    >>> loss_kind("mse"), loss_kind("sparse_categorical_crossentropy"), loss_kind("my_loss")
    ('regression', 'sparse', None)
    """
    name = loss_name(loss)
    if name in _REGRESSION_LOSSES:
        return "regression"
    return next((kind for kind, names in _CLASSIFICATION_LOSSES.items() if name in names), None)


def loss_task(loss: Any) -> str | None:
    """Infer the task from a loss: ``"classification"``, ``"regression"``, or None when it does not say.

    Examples
    --------
    >>> loss_task("binary_crossentropy"), loss_task("mae"), loss_task("hinge")
    ('classification', 'regression', None)
    """
    kind = loss_kind(loss)
    return kind if kind in (None, "regression") else "classification"


def from_logits(loss: Any) -> bool:
    """Say whether the outputs that a loss expects still need a sigmoid or softmax to be probabilities.

    Examples
    --------
    >>> from_logits("binary_crossentropy")
    False
    """
    if isinstance(loss, type) or not hasattr(loss, "get_config"):
        return False
    return bool(loss.get_config().get("from_logits", False))


# -- names ---------------------------------------------------------------------------------------------------------


def check_names(loss: Any, optimizer: Any, metrics: Any) -> None:
    """Check that Keras knows what is given by name."""
    keras = import_keras()
    listed = metrics if isinstance(metrics, list | tuple) else [metrics]
    kinds = {
        "loss": (keras.losses, [loss]),
        "optimizer": (keras.optimizers, [optimizer]),
        "metrics": (keras.metrics, listed),
    }
    for argument, (module, given) in kinds.items():
        for name in given:
            if not isinstance(name, str) or name.lower() in _RESOLVED_LATER:
                continue
            try:
                module.get(name)
            except ValueError as error:
                known = [each for each in dir(module) if not each.startswith("_")]
                alike = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
                hint = f"; did you mean {', '.join(map(repr, alike))}?" if alike else ""
                raise InvalidValueError(f"{argument}={name!r} is no name that Keras knows{hint}") from error
    if not (
        isinstance(optimizer, str | type) or hasattr(optimizer, "get_config") or isinstance(optimizer, PackedObject)
    ):
        raise InvalidTypeError(
            f"optimizer is a {type(optimizer).__name__}; give a name, a keras.optimizers.Optimizer or its class"
        )


# -- packing -------------------------------------------------------------------------------------------------------


def _is_own(thing: Any) -> bool:
    """Whether a class or function is the user's: neither Keras, TensorFlow nor Python itself can name it on its own."""
    module = (getattr(thing, "__module__", None) or "").split(".")[0]
    return module not in ("keras", "tensorflow", "builtins", "numpy")


def own_objects(*roots: Any) -> dict[str, Any]:
    """Find the user's own classes and functions inside Keras objects, by the names under which Keras looks them up.

    A ``.keras`` file names classes and does not hold them. A worker or a Spark executor cannot import what was defined
    in ``__main__`` or in a notebook, so these travel beside the file.

    Parameters
    ----------
    *roots
        Models, layers, losses, metrics or optimizers.

    Returns
    -------
    dict
        Registered name to class or function.
    """
    keras = import_keras()
    holders = (
        *(keras.layers.Layer, keras.initializers.Initializer, keras.regularizers.Regularizer),
        *(keras.constraints.Constraint, keras.losses.Loss, keras.metrics.Metric, keras.optimizers.Optimizer),
        *(keras.optimizers.schedules.LearningRateSchedule,),
    )
    found: dict[str, Any] = {}
    seen: set[int] = set()
    waiting = list(roots)
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, list | tuple | set):
            waiting.extend(item)
        elif isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, types.FunctionType):
            if _is_own(item) and item.__name__ != "<lambda>":  # Keras stores a lambda's code in the file
                found[keras.saving.get_registered_name(item)] = item
        elif isinstance(item, holders):
            if _is_own(type(item)):
                found[keras.saving.get_registered_name(type(item))] = type(item)
            waiting.extend(vars(item).values())
    return found


@dataclass(frozen=True)
class PackedModel:
    """A Keras model that can cross processes: the bytes of its ``.keras`` file, and the user's classes it is made of.

    The classes are kept pickled, so that a process which merely receives the model imports no TensorFlow for it. The
    states of its random generators (of dropout layers, say) are not in the file, and come with it.
    """

    content: bytes
    own: bytes
    seeds: tuple[Any, ...] = ()

    def open(self, *, compiled: bool = False) -> Any:
        """Make the Keras model again; with ``compiled`` its optimizer, its loss and their state too."""
        with tempfile.TemporaryDirectory(prefix="raydp_ml_") as folder:
            path = Path(folder, "model.keras")
            path.write_bytes(self.content)
            # The bytes were made from an object of this program, by this program: its lambdas are the user's own.
            load = import_keras().models.load_model
            model = load(path, custom_objects=cloudpickle.loads(self.own), compile=compiled, safe_mode=False)
        for variable, state in zip(seed_variables(model), self.seeds, strict=False):
            variable.assign(state)
        return model


def pack_model(model: Any) -> PackedModel:
    """Pack a Keras model; see `PackedModel`."""
    import_keras()
    with tempfile.TemporaryDirectory(prefix="raydp_ml_") as folder:
        path = Path(folder, "model.keras")
        with (
            warnings.catch_warnings()
        ):  # a model that is not built yet is built, with the data's width, where it is opened
            warnings.filterwarnings("ignore", "You are saving a model that has not yet been built")
            model.save(path)
        seeds = tuple(variable.numpy() for variable in seed_variables(model))
        return PackedModel(path.read_bytes(), cloudpickle.dumps(own_objects(model)), seeds)


def seed_variables(model: Any) -> list[Any]:
    """The states of a model's random generators."""
    return [variable for variable in model.variables if variable.path.endswith("seed_generator_state")]


@dataclass(frozen=True)
class PackedObject:
    """A Keras loss, metric or optimizer as its configuration, with the user's classes that it is made of."""

    config: Any
    own: bytes

    def open(self) -> Any:
        """Make the object again, fresh: a metric without counts, an optimizer without momenta."""
        deserialize = import_keras().saving.deserialize_keras_object
        return deserialize(self.config, custom_objects=cloudpickle.loads(self.own), safe_mode=False)


def pack_object(thing: Any) -> Any:
    """Pack a Keras object, or a list or dict of them; names, classes, plain functions and None stay as they are."""
    if isinstance(thing, list | tuple):
        return [pack_object(item) for item in thing]
    if isinstance(thing, dict):
        return {key: pack_object(item) for key, item in thing.items()}
    if thing is None or isinstance(thing, str | type | types.FunctionType) or not hasattr(thing, "get_config"):
        return thing
    return PackedObject(import_keras().saving.serialize_keras_object(thing), cloudpickle.dumps(own_objects(thing)))


def open_object(thing: Any) -> Any:
    """Undo `pack_object`."""
    if isinstance(thing, list):
        return [open_object(item) for item in thing]
    if isinstance(thing, dict):
        return {key: open_object(item) for key, item in thing.items()}
    return thing.open() if isinstance(thing, PackedObject) else thing


def is_function(model: Any) -> bool:
    """Whether ``model`` makes a model (a function or a class) rather than being one."""
    return callable(model) and (isinstance(model, type) or not hasattr(model, "get_config"))


def make_model(model: "PackedModel | Callable[..., Any]", n_features: int, n_outputs: int) -> Any:
    """Give a model of its own to one fit: opened, or made by the user's function.

    Parameters
    ----------
    model : PackedModel or callable
        A packed model, or a function or class that returns one; it is given those of the other two that it has as
        parameters.
    n_features, n_outputs : int
        Numbers of input and output values per row.
    """
    keras = import_keras()
    if isinstance(model, PackedModel):
        return model.open()
    made = call_with_sizes(model, n_features, n_outputs)
    if not isinstance(made, keras.Model):
        raise InvalidTypeError(
            f"model must be a Keras model or a function that returns one; the function returned {type(made).__name__}"
        )
    return made
