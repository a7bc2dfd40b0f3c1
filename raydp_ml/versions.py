"""Which versions of the libraries this process uses."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from importlib import metadata

__all__ = ["library_versions", "show_versions"]

# Distribution names in the order shown; a module may come from one of several distributions.
_DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    "raydp_ml": ("raydp-ml",),
    "ray": ("ray",),
    "pyspark": ("pyspark", "pyspark-client"),
    "pyarrow": ("pyarrow",),
    "numpy": ("numpy",),
    "pandas": ("pandas",),
    "sklearn": ("scikit-learn",),
    "torch": ("torch",),
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "keras": ("keras",),
    "xgboost": ("xgboost", "xgboost-cpu"),
    "skorch": ("skorch",),
}


def library_versions() -> dict[str, str]:
    """Versions of the installed libraries that raydp_ml works with, without importing them.

    Returns
    -------
    dict of str to str
        Module name to version; libraries that are not installed are left out.

    Examples
    --------
    >>> from raydp_ml.versions import library_versions
    >>> "numpy" in library_versions()
    True
    """
    return dict(_library_versions())


@cache
def _library_versions() -> dict[str, str]:
    # Reading the metadata of a dozen distributions takes a tenth of a second, and every save and load asks.
    found = {"python": platform.python_version()}
    for module, distributions in _DISTRIBUTIONS.items():
        for distribution in distributions:
            try:
                found[module] = metadata.version(distribution)
            except metadata.PackageNotFoundError:
                continue
            break
    return found


def _java_version() -> str:
    """First line of ``java -version`` of the Java that Spark would start, or why there is none."""
    home = os.environ.get("JAVA_HOME")
    java = os.path.join(home, "bin", "java") if home else shutil.which("java")
    if java is None or not os.path.exists(java):
        return "not found"
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"not usable ({error})"
    lines = (answer.stderr or answer.stdout).strip().splitlines()
    return lines[0] if lines else "unknown"


def show_versions() -> None:
    """Print the system and the library versions, for a bug report.

    Examples
    --------
    >>> import raydp_ml
    >>> raydp_ml.show_versions()  # doctest: +ELLIPSIS
    system
      platform    ...
    """
    system = {
        "platform": platform.platform(),
        "executable": sys.executable,
        "java": _java_version(),
        "cpus": str(os.cpu_count()),
    }
    for title, table in (("system", system), ("libraries", library_versions())):
        print(title)
        for name, value in table.items():
            print(f"  {name:<11} {value}")
