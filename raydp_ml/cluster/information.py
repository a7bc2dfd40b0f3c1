"""What spark_info gives: a dict that shows itself as a table."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

__all__ = ["SparkInfo"]

_NONE = "no Spark session of raydp_ml runs in this process"
_HEADINGS = ("executor", "node", "pid", "state", "cores", "lends CPUs", "storage memory", "tasks", "log")


class SparkInfo(dict[str, Any]):
    """A running application.

    Parameters
    ----------
    found : mapping
        ``app_id``, ``app_name``, ``spark_version``, ``ui`` (address of Spark's user interface, None where it is off) and
        ``executors``: by id a dict with ``node_id`` (Ray's), ``address``, ``pid`` of the JVM, ``log`` (file on its node),
        ``state`` (``"starting"`` or ``"running"``), ``lends_cpus``, and when it runs ``cores``, ``active_tasks``,
        ``completed_tasks``, ``failed_tasks``, ``memory_used`` and ``memory_max`` (bytes of storage memory). Empty when
        nothing runs.

    Examples
    --------
    >>> SparkInfo({})
    no Spark session of raydp_ml runs in this process
    """

    def _title(self) -> str:
        parts = [self["app_name"], self["app_id"], f"Spark {self['spark_version']}", self["ui"] or "no user interface"]
        return ", ".join(parts)

    def _rows(self) -> list[tuple[str, ...]]:
        return [_row(executor_id, executor) for executor_id, executor in self["executors"].items()]

    def __repr__(self) -> str:
        if not self:
            return _NONE
        rows = [_HEADINGS, *self._rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([self._title(), *lines])

    def _repr_html_(self) -> str:
        if not self:
            return f"<p>{_NONE}</p>"
        ui = self["ui"]
        link = f'<a href="{html.escape(ui)}">Spark\'s user interface</a>' if ui else ""
        head = "".join(f"<th>{html.escape(heading)}</th>" for heading in _HEADINGS)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self._rows()
        )
        title = html.escape(f"{self['app_name']}, {self['app_id']}, Spark {self['spark_version']}")
        return f"<p>{title} {link}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _row(executor_id: str, executor: Mapping[str, Any]) -> tuple[str, ...]:
    runs = executor["state"] == "running"
    memory = f"{_mib(executor['memory_used'])} of {_mib(executor['memory_max'])} MiB" if runs else ""
    tasks = f"{executor['active_tasks']} run, {executor['completed_tasks']} done" if runs else ""
    if runs and executor["failed_tasks"]:
        tasks += f", {executor['failed_tasks']} failed"
    return (
        executor_id,
        f"{executor['address']} ({executor['node_id'][:8]})",
        str(executor["pid"]),
        executor["state"],
        str(executor["cores"]) if runs else "",
        "yes" if executor["lends_cpus"] else "no",
        memory,
        tasks,
        executor["log"],
    )


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f}"
