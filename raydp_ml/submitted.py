"""The application that raydp-submit starts for a Python program, before the program says whether and how it wants Spark.

The program may ask Spark for a session (``SparkSession.builder.getOrCreate()``, ``SparkContext(conf=...)``), or raydp_ml
(``init_spark``). Either way the settings that were submitted hold.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from raydp_ml.application import Application
from raydp_ml.cluster.request import SessionRequest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["Submitted"]


class Submitted:
    """An application in this process whose driver JVM runs and has no SparkContext yet.

    Parameters
    ----------
    request : SessionRequest
        What was submitted; its ``configs`` are the settings that the program's own do not win over in ``init_spark``.
    address : str, optional
        The Ray cluster.
    """

    def __init__(self, request: SessionRequest, address: str | None) -> None:
        from raydp_ml.exchange import context as contexts

        self._settings = dict(request.configs)
        self._address = address
        self.application = Application(request, whole=True)
        try:
            self.application.join(address)
            self.application.launch_driver()
            self.application.watch()
        except BaseException:
            self.application.end(cleanup_data=True)
            raise
        contexts.expect(self.application.adopt)

    def session(self) -> SparkSession | None:
        """The session that the program has made with Spark's own names; None when there is none."""
        from raydp_ml.cluster import spark_seam

        return spark_seam.session_in(self.application.gateway)

    def start(self, request: SessionRequest) -> Application:
        """Start what ``init_spark`` was called for.

        Parameters
        ----------
        request : SessionRequest
            The program's arguments.

        Returns
        -------
        Application
            The one that was prepared, or, when the arguments say what a JVM must know at its start, another.
        """
        application = self.application
        unlike = request.configs or request.enable_hive or request.placement_group or request.placement_group_strategy
        if not unlike and application.can_begin():
            arguments = {key: value for key, value in request.arguments().items() if key not in self._settings}
            application.begin(arguments)
            return application
        application.end(cleanup_data=True)
        merged = tuple(sorted((dict(request.configs) | self._settings).items()))
        another = Application(replace(request, configs=merged), whole=True)
        try:
            another.start(self._address)
        except BaseException:
            another.end(cleanup_data=True)
            raise
        return another
