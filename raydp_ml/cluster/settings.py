"""The settings of raydp_ml inside a Spark configuration: one typed registry, with RayDP's keys where RayDP has one."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from raydp_ml.errors import InvalidTypeError, InvalidValueError

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_TIME_UNITS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_memory(value: int | str, name: str, unit: str = "b") -> int:
    """Bytes of a memory size.

    Parameters
    ----------
    value : int or str
        ``"4GB"``, ``"4 GB"``, ``"4g"``, ``"512MiB"``, or a number of ``unit``. Units are powers of 1024, as in Spark.
    name : str
        The argument or setting, for the error.
    unit : str, default "b"
        Unit of a number without one.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        When it is no memory size.

    Examples
    --------
    >>> parse_memory("4 GB", "executor_memory") == parse_memory("4g", "executor_memory") == 4 * 1024**3
    True
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InvalidTypeError(f"{name}={value!r} is no memory size; give a string such as '4g' or a number of bytes")
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(value))
    suffix = match.group(2).lower() if match else ""
    letter = re.fullmatch(r"([bkmgtp]?)(?:i?b)?", suffix)
    if match is None or letter is None:
        raise InvalidValueError(
            f"{name}={value!r} is no memory size; give for example '4g', '4GB', '512m' or a number of bytes"
        )
    size = int(float(match.group(1)) * _UNITS[letter.group(1) or (unit if not suffix else "b")])
    if size <= 0:
        raise InvalidValueError(f"{name}={value!r} must be more than 0")
    return size


def parse_seconds(value: str, name: str) -> float:
    """Seconds of a Spark duration (``"5min"``, ``"300s"``, ``"300"``)."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(value).lower())
    if match is None or match.group(2) not in _TIME_UNITS:
        raise InvalidValueError(f"{name}={value!r} is no duration; give for example '300s' or '5min'")
    return float(match.group(1)) * _TIME_UNITS[match.group(2)]


def _parse_count(value: str, name: str) -> int:
    if not re.fullmatch(r"\s*\d+\s*", value):
        raise InvalidValueError(f"{name}={value!r} must be a whole number")
    return int(value)


def _parse_amount(value: str, name: str) -> float:
    try:
        amount = float(value)
    except ValueError:
        raise InvalidValueError(f"{name}={value!r} must be a number") from None
    if amount < 0:
        raise InvalidValueError(f"{name}={value!r} must not be negative")
    return amount


def _parse_counted_memory(value: str, name: str) -> int:
    return 0 if value.strip() == "0" else parse_memory(value, name)


def _parse_switch(value: str, name: str) -> bool:
    switches = {"true": True, "false": False}
    if value.strip().lower() not in switches:
        raise InvalidValueError(f"{name}={value!r} must be true or false")
    return switches[value.strip().lower()]


def _parse_text(value: str, name: str) -> str:
    return value


@dataclass(frozen=True)
class Setting:
    """One key: how its text becomes a value, what holds when it is not set, and what it does.

    A key that ends in ``.*`` stands for every key with that prefix.
    """

    key: str
    parse: Callable[[str, str], Any]
    default: Any
    doc: str


_EXECUTOR = "spark.ray.raydp_spark_executor.actor.resource."
_MASTER = "spark.ray.raydp_spark_master.actor.resource."

REGISTRY: tuple[Setting, ...] = (
    Setting(
        _EXECUTOR + "cpu",
        _parse_amount,
        None,
        "CPUs that Ray counts for one executor; fractions allow more executors than cores (default: spark.executor.cores)",
    ),
    Setting(
        _EXECUTOR + "memory",
        _parse_counted_memory,
        None,
        "memory that Ray counts for one executor, 0 for none (default: heap, overhead, off-heap and PySpark memory)",
    ),
    Setting(_EXECUTOR + "*", _parse_amount, None, "amount of a custom Ray resource, or GPU, for one executor"),
    Setting("spark.ray.actor.resource.cpu", _parse_amount, None, "older spelling of " + _EXECUTOR + "cpu"),
    Setting("spark.ray.actor.resource.*", _parse_amount, None, "older spelling of " + _EXECUTOR + "*"),
    Setting(
        _MASTER + "*",
        _parse_amount,
        None,
        "resources of the actor that owns converted blocks, which stands where RayDP's master actor stood",
    ),
    Setting(
        "spark.ray.resource.timeout",
        parse_seconds,
        300.0,
        "how long to wait for the first executor before the start is an error",
    ),
    Setting(
        "spark.ray.executor.maxStartFailures",
        _parse_count,
        4,
        "executors in a row that may end before they register until the application fails",
    ),
    Setting(
        "spark.ray.executor.lendCpus",
        _parse_switch,
        True,
        "whether executors lend their CPUs to Ray while they have no tasks, and when a fit, a search or a conversion asks for some",
    ),
    Setting(
        "spark.ray.executor.lendAfter",
        parse_seconds,
        1.0,
        "how long an executor has no task before it lends its CPUs",
    ),
    Setting(
        "spark.ray.executor.logToDriver",
        _parse_switch,
        False,
        "whether Ray prints the executors' logs on the driver, beside their files",
    ),
    Setting(
        "spark.ray.staging.dir",
        _parse_text,
        None,
        "folder for partitions on their way between Spark and Ray (default: /dev/shm if it has room, else the local folder)",
    ),
    Setting(
        "spark.log4j.config.file.name",
        _parse_text,
        None,
        "Log4j configuration of the driver JVM (default: warnings on the console)",
    ),
    Setting(
        "spark.ray.log4j.config.file.name",
        _parse_text,
        None,
        "Log4j configuration of the executors, a file on the driver's machine (default: Spark's own, to their log files)",
    ),
    Setting(
        "spark.ray.raydp_app_master.extraJavaOptions",
        _parse_text,
        None,
        "accepted for RayDP's programs, whose master is a JVM of its own; spark.driver.extraJavaOptions is for the driver",
    ),
    Setting("spark.preferClassPath", _parse_text, None, "class path entries for the driver JVM, before Spark's own"),
    Setting(
        "spark.ray.preferClassPath",
        _parse_text,
        None,
        "class path entries for executors, before all others but our jar",
    ),
    Setting(
        "spark.ray.log4j.factory.class",
        _parse_text,
        None,
        "accepted for RayDP's programs, where it chooses between versions of Log4j; here each JVM has one",
    ),
    Setting("raydp.executor.extraClassPath", _parse_text, None, "class path entries for executors, before Spark's own"),
)

_BY_KEY = {setting.key: setting for setting in REGISTRY}


def read(settings: Mapping[str, str], key: str) -> Any:
    """Typed value of one key, or its default.

    Examples
    --------
    >>> read({"spark.ray.resource.timeout": "2min"}, "spark.ray.resource.timeout")
    120.0
    """
    setting = _BY_KEY[key]
    return setting.parse(settings[key], key) if key in settings else setting.default


def read_group(settings: Mapping[str, str], prefix: str) -> dict[str, float]:
    """Amounts of all keys with a prefix that ends in a dot, by the rest of their names.

    Examples
    --------
    >>> read_group({"spark.ray.actor.resource.tpu": "2"}, "spark.ray.actor.resource.")
    {'tpu': 2.0}
    """
    return {
        key[len(prefix) :]: _parse_amount(value, key)
        for key, value in settings.items()
        if key.startswith(prefix) and key not in _BY_KEY
    }


def executor_resources(settings: Mapping[str, str]) -> tuple[float | None, int | None, dict[str, float]]:
    """What the settings say of one executor's Ray resources.

    Parameters
    ----------
    settings : mapping
        Spark configuration.

    Returns
    -------
    cpu : float or None
        CPUs, if set.
    memory : int or None
        Bytes, if set.
    custom : dict
        Other resources by name, ``GPU`` included.
    """
    cpu = read(settings, _EXECUTOR + "cpu")
    if cpu is None:
        cpu = read(settings, "spark.ray.actor.resource.cpu")
    custom = read_group(settings, "spark.ray.actor.resource.") | read_group(settings, _EXECUTOR)
    return cpu, read(settings, _EXECUTOR + "memory"), custom


def owner_resources(settings: Mapping[str, str]) -> dict[str, float]:
    """Ray resources of the actor that owns converted blocks."""
    return read_group(settings, _MASTER)


def warn_unknown(settings: Mapping[str, str]) -> None:
    """Warn of ``spark.ray.*`` keys that nothing reads, with the nearest right one."""
    prefixes = tuple(setting.key[:-1] for setting in REGISTRY if setting.key.endswith(".*"))
    for key in settings:
        if key.startswith(("spark.ray.", "raydp.")) and key not in _BY_KEY and not key.startswith(prefixes):
            near = difflib.get_close_matches(key, [s.key for s in REGISTRY], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            warnings.warn(f"the setting {key} is unknown to raydp_ml and does nothing{hint}", stacklevel=3)
