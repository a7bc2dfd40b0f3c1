"""Spark's external shuffle service, one for each node that has executors: shuffle files stay readable when executors go.

It is the service of a standalone cluster (org.apache.spark.deploy.ExternalShuffleService) as the child of an actor, for one
application and with its secret. It owns the folders that executors of its node write shuffle files to; so a service that ends takes
the node's executors with it.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raydp_ml.cluster.jar import spark_home
from raydp_ml.cluster.java import find_java
from raydp_ml.cluster.jvm import ChildJvm
from raydp_ml.cluster.nodes import node_label, session_logs
from raydp_ml.errors import RaydpMLError

_START_SECONDS = 60.0
_PORT = "spark.shuffle.service.port"
# What the service and the executors have to agree on.
_SHARED = ("spark.authenticate", "spark.network.", "spark.shuffle.", "spark.io.", "spark.ssl.")


def is_wanted(settings: Mapping[str, str]) -> bool:
    """Whether a Spark configuration asks for the service."""
    return settings.get("spark.shuffle.service.enabled", "false").lower() == "true"


@dataclass(frozen=True)
class ServicePlace:
    """Where executors of the node find the service, and where they write."""

    port: int
    folders: tuple[str, ...]


@dataclass(frozen=True)
class ServiceLaunch:
    """All that a service needs to start."""

    app_id: str
    settings: Mapping[str, str] = field(repr=False)  # among them perhaps passwords of key stores
    secret: str = field(repr=False)


class ShuffleService:
    """The actor: starts the service's JVM and watches it."""

    def __init__(self, launch: ServiceLaunch) -> None:
        self._jvm = ChildJvm("shuffle service")
        app, settings = launch.app_id, launch.settings
        work = self._jvm.own(tempfile.gettempdir(), app, "shuffle-service")
        folders = self._jvm.local_folders(work, settings.get("spark.local.dir"), app, "shuffle-service")
        port = int(settings.get(_PORT) or _free_port())
        shared = {key: value for key, value in settings.items() if key.startswith(_SHARED)}
        lines = [f"{key} {value}\n" for key, value in {**shared, _PORT: str(port)}.items()]
        (work / "spark-defaults.conf").write_text("".join(lines))
        home = spark_home()
        java = [find_java(home.version), "-cp", str(home.path / "jars" / "*"), "-Xmx512m", "-XX:-UsePerfData"]
        environment = {
            **os.environ,
            "SPARK_HOME": str(home.path),
            "SPARK_CONF_DIR": str(work),
            "_SPARK_AUTH_SECRET": launch.secret,
        }
        node = ray.get_runtime_context().get_node_id()
        log = session_logs() / f"{app}-shuffle-service-{node[:12]}.log"
        self._jvm.start([*java, "org.apache.spark.deploy.ExternalShuffleService"], environment, work, log)
        self._place = ServicePlace(port, tuple(folders))
        self._wait_until_it_listens()

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            ended = self._jvm.has_ended(0.1)
            if ended or time.monotonic() > deadline:
                how = f"exited with code {self._jvm.wait()}" if ended else "does not listen"
                raise RaydpMLError(f"the shuffle service {how}; the last lines of its log:\n{self._jvm.log_tail()}")
            try:
                socket.create_connection(("127.0.0.1", self._place.port), timeout=5).close()
                return
            except ConnectionRefusedError:
                continue

    def place(self) -> ServicePlace:
        """Port and folders, when it listens."""
        return self._place

    def wait_exit(self) -> str:
        """Wait for the end of the JVM, and return how it ended."""
        code = self._jvm.wait()
        return f"the shuffle service exited with code {code}; the last lines of its log:\n{self._jvm.log_tail()}"


class ShuffleServices:
    """Makes a service on each node that gets an executor, and ends them all.

    Parameters
    ----------
    launch : ServiceLaunch
        What each of them needs.
    """

    def __init__(self, launch: ServiceLaunch) -> None:
        self._launch = launch
        self._by_node: dict[str, ActorHandle] = {}
        self._lock = threading.Lock()

    def at(self, node_id: str) -> ActorHandle:
        """The service of a node, made when there is none."""
        with self._lock:
            service = self._by_node.get(node_id)
            if service is None:
                service = self._by_node[node_id] = self._make(node_id)
            return service

    def _make(self, node_id: str) -> ActorHandle:
        options = {
            "num_cpus": 0,
            # Ray may place an actor that needs nothing on another node (see the owner of blocks in application.py).
            "resources": {node_label(node_id): 0.0001},
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False),
            "max_concurrency": 64,
        }
        service = ray.remote(ShuffleService).options(**options).remote(self._launch)
        service.wait_exit.remote().future().add_done_callback(lambda _: self._forget(node_id, service))
        return service

    def _forget(self, node_id: str, service: ActorHandle) -> None:
        with self._lock:
            if self._by_node.get(node_id) is service:
                del self._by_node[node_id]

    def stop(self) -> None:
        """End the services; their folders go with them."""
        with self._lock:
            services, self._by_node = list(self._by_node.values()), {}
        for service in services:
            ray.kill(service)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])
