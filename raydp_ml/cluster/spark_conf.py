"""Spark's configuration files, read and written as java.util.Properties does, which is how Spark reads them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from raydp_ml.errors import InvalidValueError

__all__ = ["parse_properties", "properties_text", "read_properties", "spark_defaults"]

_LETTERS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_BLANKS = " \t\f"


def parse_properties(text: str) -> dict[str, str]:
    """Keys and values of a properties file.

    Parameters
    ----------
    text : str
        Its content. A key ends at the first ``=``, ``:`` or blank; a backslash escapes, and continues a line at its end.

    Returns
    -------
    dict of str to str
        Values without the blanks around them, as Spark has them.

    Raises
    ------
    ValueError
        For a ``\\u`` without four hexadecimal digits.

    Examples
    --------
    >>> parse_properties("# sizes\\nspark.executor.memory  2g\\nspark.app.name = a b")
    {'spark.executor.memory': '2g', 'spark.app.name': 'a b'}
    """
    found = {}
    for line in _logical_lines(text):
        match = re.match(r"((?:\\.|[^\\=:\s])*)[ \t\f]*(?:[=:][ \t\f]*)?(.*)", line, flags=re.DOTALL)
        if match is not None:
            found[_unescaped(match.group(1))] = _unescaped(match.group(2)).strip(_BLANKS)
    return found


def _logical_lines(text: str) -> Iterator[str]:
    """Lines without comments, each with those that continue it."""
    held = ""
    for line in re.split(r"\r\n|\n|\r", text):
        line = line.lstrip(_BLANKS)
        if not held and (not line or line[0] in "#!"):
            continue
        backslashes = len(line) - len(line.rstrip("\\"))
        if backslashes % 2:
            held += line[:-1]
            continue
        yield held + line
        held = ""
    if held:
        yield held


def _unescaped(text: str) -> str:
    def character(match: re.Match[str]) -> str:
        escaped = match.group(1)
        if escaped[0] == "u":
            return chr(int(escaped[1:], 16))
        return _LETTERS.get(escaped, escaped)

    return re.sub(r"\\(u[0-9a-fA-F]{0,4}|.)", character, text, flags=re.DOTALL)


def properties_text(settings: Mapping[str, str]) -> str:
    """A properties file that says the settings.

    Examples
    --------
    >>> print(properties_text({"spark.app.name": "a=b", "spark.x": "C:\\\\new"}), end="")
    spark.app.name=a=b
    spark.x=C:\\\\new
    """
    return "".join(f"{_escaped(key, ' =:')}={_escaped(value, '')}\n" for key, value in settings.items())


def _escaped(text: str, separators: str) -> str:
    text = text.replace("\\", "\\\\")
    for letter, character in _LETTERS.items():
        text = text.replace(character, f"\\{letter}")
    for separator in separators:
        text = text.replace(separator, f"\\{separator}")
    # A comment begins with one of these; elsewhere the backslash changes nothing.
    return re.sub(r"^([#! ])", r"\\\1", text)


def read_properties(path: str | os.PathLike[str], argument: str) -> dict[str, str]:
    """Settings of a file.

    Parameters
    ----------
    path : path-like
        The file, in UTF-8.
    argument : str
        What named the file, for the error.

    Raises
    ------
    InvalidValueError
        When it cannot be read.
    """
    try:
        return parse_properties(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidValueError(f"{argument}={str(path)!r} cannot be read: {error}") from error


def spark_defaults(home: Path) -> dict[str, str]:
    """Settings of ``spark-defaults.conf``, from SPARK_CONF_DIR or the ``conf`` folder of a Spark; none when there is no such file.

    Parameters
    ----------
    home : pathlib.Path
        Folder of the Spark.
    """
    file = Path(os.environ.get("SPARK_CONF_DIR") or home / "conf") / "spark-defaults.conf"
    return read_properties(file, "SPARK_CONF_DIR") if file.is_file() else {}
