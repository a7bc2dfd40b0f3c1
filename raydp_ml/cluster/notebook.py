"""What a session does in IPython: an interrupted cell ends the Spark jobs that it waits for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

__all__ = ["after_interrupted_cells"]


def after_interrupted_cells(cancel: Callable[[], None]) -> None:
    """Call a function whenever a cell was interrupted; nothing happens outside of IPython.

    PySpark cancels jobs in a handler for SIGINT, which it sets when its context is made, and Jupyter's kernel has its own in each
    cell: the call returns there, and the job would go on and keep the cores.

    Parameters
    ----------
    cancel : callable
        Called with no arguments.

    Examples
    --------
    >>> from raydp_ml.cluster.notebook import after_interrupted_cells
    >>> after_interrupted_cells(lambda: None)
    """
    if "IPython" not in sys.modules:
        return
    shell = sys.modules["IPython"].get_ipython()
    if shell is None:
        return

    def after_cell(result: Any) -> None:
        if isinstance(result.error_in_exec, KeyboardInterrupt):
            cancel()

    shell.events.register("post_run_cell", after_cell)
