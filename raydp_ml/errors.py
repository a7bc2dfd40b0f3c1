"""The exceptions of raydp_ml: each is a RaydpMLError and also the built-in type that such an error has everywhere else."""

__all__ = [
    "BlockLostError",
    "ExecutorStartError",
    "InvalidTypeError",
    "InvalidValueError",
    "MissingDependencyError",
    "RaydpMLError",
    "ResourceTimeoutError",
    "SessionStoppedError",
    "how_to_ship",
    "require",
]

from importlib import import_module
from types import ModuleType


class RaydpMLError(Exception):
    """Base class of every error that raydp_ml raises on purpose."""


class InvalidValueError(RaydpMLError, ValueError):
    """An argument or a column has a value that cannot be used."""


class InvalidTypeError(RaydpMLError, TypeError):
    """An argument or a column has a type that cannot be used."""


class ResourceTimeoutError(RaydpMLError, TimeoutError):
    """The cluster did not give the resources that were asked for in time."""


class SessionStoppedError(RaydpMLError, RuntimeError):
    """The Spark session that the call needs is stopped, or its driver JVM died."""


class ExecutorStartError(RaydpMLError, RuntimeError):
    """Spark executors die at start again and again."""


class BlockLostError(RaydpMLError, RuntimeError):
    """A block of a converted frame was lost and cannot be rebuilt with the same rows."""


class MissingDependencyError(RaydpMLError, ImportError):
    """An optional library is not installed."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional library, or say which extra installs it.

    Parameters
    ----------
    module : str
        Name of the module to import, ``"xgboost"`` for example.
    extra : str
        The extra of raydp-ml that installs it.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    MissingDependencyError
        When the module cannot be found.

    Examples
    --------
    >>> require("json", extra="torch").dumps([1])
    '[1]'
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingDependencyError(
            f'{module} is not installed; install it with: pip install "raydp-ml[{extra}]"'
        ) from error


def how_to_ship(error: ModuleNotFoundError) -> str:
    """What to say of a module that a process on a node lacks.

    Parameters
    ----------
    error : ModuleNotFoundError
        The error of that process.

    Examples
    --------
    >>> told = how_to_ship(ModuleNotFoundError("No module named 'cleaning.rules'", name="cleaning.rules"))
    >>> told.partition(". ")[0]
    "The nodes do not have the module 'cleaning'"
    """
    name = (error.name or "").split(".")[0]
    return (
        f"The nodes do not have the module {name!r}. Ship your own modules with "
        'ray.init(runtime_env={"py_modules": [...]}) or "working_dir", for Spark\'s Python workers, training workers and trials, '
        "or with sc.addPyFile or --py-files, for Spark's workers alone; install other packages on the nodes"
    )
