"""One Spark application inside the Ray cluster: starts its parts in order, waits for executors, and ends all of it."""

from __future__ import annotations

import logging
import os
import secrets
import sys
import tempfile
import threading
import warnings
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raydp_ml.cluster.request import ARGUMENTS, SessionRequest
from raydp_ml.errors import RaydpMLError, ResourceTimeoutError, SessionStoppedError
from raydp_ml.progress import waiting_for

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from raydp_ml.cluster.jar import SparkHome
    from raydp_ml.cluster.jvm import Janitor
    from raydp_ml.cluster.master import Master
    from raydp_ml.cluster.placement import Bundles
    from raydp_ml.exchange.context import ExchangeContext

logger = logging.getLogger(__name__)

_MASTER_URL = "spark-ray://cluster"
_RAY_GONE = "Ray was shut down, and with it the executors of the Spark session"
# Owners whose blocks shall live until this process ends (stop_spark(cleanup_data=False)): an actor ends with its last handle.
_kept_owners: list[Any] = []


@dataclass(frozen=True)
class DriverLaunch:
    """What the driver JVM is started with: variables, and a file of settings, because a command line may hold no secrets."""

    home: SparkHome
    folder: Path
    properties: Path
    environment: Mapping[str, str]


class Application:
    """A running application and everything that must end with it.

    Parameters
    ----------
    request : SessionRequest
        What was asked for.
    whole : bool, default False
        Whether the request's settings are all that there are; otherwise those of spark-defaults.conf are beneath them.
    """

    def __init__(self, request: SessionRequest, whole: bool = False) -> None:
        self.request = request
        self._whole = whole
        self.app_id = f"raydp-ml-{secrets.token_hex(6)}"
        self.master: Master | None = None
        self.owner: Any = None
        self.bundles: Bundles | None = None
        self.gateway: Any = None
        self.janitor: Janitor | None = None
        self.spark: SparkSession | None = None
        self.connection: tuple[str, str] | None = None
        self.context: ExchangeContext | None = None
        self.ended: str | None = None
        self._ending = threading.RLock()
        self._watched: Future[None] | None = None

    # Start.

    def start(self, address: str | None = None) -> SparkSession:
        """Start all of it, and return when executors run; the arguments are those of :meth:`join`."""
        self.join(address)
        self.launch_driver()
        return self.begin({})

    def join(self, address: str | None = None) -> None:
        """The part in Ray: the owner of blocks, the master, and the actors of the first executors.

        Parameters
        ----------
        address : str, optional
            The Ray cluster; None: the one of this process, of RAY_ADDRESS, or a new one on this machine.
        """
        import ray

        from raydp_ml.cluster import settings as registry
        from raydp_ml.cluster import shuffle_service
        from raydp_ml.cluster.console import executor_log4j
        from raydp_ml.cluster.hosts import RayHosts
        from raydp_ml.cluster.jar import ensure_jar, spark_home
        from raydp_ml.cluster.java import find_java
        from raydp_ml.cluster.master import Master
        from raydp_ml.cluster.node_files import DriverFiles
        from raydp_ml.cluster.owners import make_owner
        from raydp_ml.cluster.ray_connection import connection, start_ray
        from raydp_ml.cluster.spark_conf import spark_defaults

        self.home = spark_home()
        defaults = {} if self._whole else spark_defaults(self.home.path)
        beneath = {key: value for key, value in defaults.items() if key not in ARGUMENTS}
        self.configs = configs = beneath | dict(self.request.configs)
        registry.warn_unknown(configs)
        # Errors of these are errors of this process, before anything starts.
        executor_log4j(configs)
        registry.read(configs, "spark.ray.executor.logToDriver")
        find_java(self.home.version)
        self.jar = ensure_jar(self.home)
        start_ray(address)
        self.connection = connection()
        self._check_feasible(configs)
        self.bundles = self._make_bundles(configs)
        node = ray.get_runtime_context().get_node_id()
        self.owner = make_owner(self.request.app_name, registry.owner_resources(configs), node)
        self.secret = secrets.token_hex(32)
        services = None
        if shuffle_service.is_wanted(configs):
            told = {"spark.authenticate": "true"} | configs
            services = shuffle_service.ShuffleServices(shuffle_service.ServiceLaunch(self.app_id, told, self.secret))
        lends = registry.read(configs, "spark.ray.executor.lendCpus") and self.request.placement_group is None
        nodes: list[str] = []
        if lends and self.bundles is not None:
            # The group has said which nodes the strategy takes; each executor reserves its own place there.
            nodes = self.bundles.nodes()
            self._end_bundles()
        self.master = Master(
            self.app_id,
            RayHosts(self.owner, self.bundles, services, lends, f"{self.request.app_name} ({self.app_id})", nodes),
            DriverFiles.of(self.home, self.jar, node),
            self.secret,
            release=lambda lease: self.owner.release.remote(lease),
            lost=self._driver_lost,
            ray_lost=self._ray_lost,
            max_start_failures=registry.read(configs, "spark.ray.executor.maxStartFailures"),
            lend_after=registry.read(configs, "spark.ray.executor.lendAfter"),
            timeout=registry.read(configs, "spark.ray.resource.timeout"),
        )
        if not self.request_is_dynamic():
            executors = int(configs.get("spark.executor.instances", self.request.num_executors))
            self.master.expect(self._executor_request(configs), executors)

    def driver_launch(self) -> DriverLaunch:
        """How the driver JVM is started, whoever starts it."""
        import ray

        from raydp_ml.cluster import class_archive
        from raydp_ml.cluster.console import driver_log4j
        from raydp_ml.cluster.java import COMPILE_WHAT_IS_HOT
        from raydp_ml.cluster.jvm import Janitor
        from raydp_ml.cluster.spark_conf import properties_text

        if self.master is None:
            raise SessionStoppedError("the session is not started")
        self.janitor = Janitor()
        folder = self.janitor.own(tempfile.gettempdir(), self.app_id, "driver")
        settings = self._spark_settings() | {"spark.authenticate.secret": self.secret}
        environment = {
            "RAYDP_ML_MASTER_PORT": str(self.master.port),
            "RAYDP_ML_MASTER_TOKEN": self.master.token,
            "RAYDP_ML_APP_ID": self.app_id,
            "SPARK_SUBMIT_OPTS": " ".join(
                [
                    os.environ.get("SPARK_SUBMIT_OPTS", ""),
                    f"-Djava.io.tmpdir={folder}",
                    *driver_log4j(settings, self.home.path, folder),
                    *COMPILE_WHAT_IS_HOT,
                    *class_archive.java_options(self.home, self.jar),
                ]
            ).strip(),
            "SPARK_LOCAL_IP": os.environ.get("SPARK_LOCAL_IP", ray.util.get_node_ip_address()),
        }
        if "spark.local.dir" not in settings:
            environment["SPARK_LOCAL_DIRS"] = os.environ.get("SPARK_LOCAL_DIRS", str(folder))
        properties = folder / "spark.properties"
        # Spark drops other keys with a warning.
        own = {key: value for key, value in settings.items() if key.startswith("spark.")}
        properties.write_text(properties_text(own), encoding="utf-8")
        return DriverLaunch(self.home, folder, properties, environment)

    def launch_driver(self) -> None:
        """Start the driver JVM for this process, without a SparkContext in it."""
        from raydp_ml.cluster import spark_seam

        spark_seam.drop_idle_driver()
        # PySpark reads it when the context is made, and when a Python function is sent to the executors.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        launch = self.driver_launch()
        driver = spark_seam.spawn_driver(launch.properties, launch.environment, launch.folder)
        if self.janitor is not None:
            self.janitor.tell(f"wait {driver.process.pid}")
        with waiting_for("Spark starts"):
            self.gateway = spark_seam.connect_driver(driver)

    def begin(self, settings: Mapping[str, str]) -> SparkSession:
        """Make the SparkContext, and return when executors run.

        Parameters
        ----------
        settings : mapping
            Configuration beside that of the request.
        """
        from raydp_ml.cluster import settings as registry
        from raydp_ml.cluster.waiting import wait_for_executors

        if self.master is None:
            raise SessionStoppedError("the session is not started")
        with waiting_for("the SparkContext starts"):
            # The JVM has the others from its start, and spark-submit has added to some: the jars of packages to spark.jars.
            own = {key: value for key, value in self.request.configs if not key.startswith("spark.")}
            spark = self._make_session(own | dict(settings))
        self.spark = spark
        with waiting_for("Spark's executors start"):
            if self._watched is None:
                timeout = registry.read(self.configs, "spark.ray.resource.timeout")
                wait_for_executors(self.master, timeout, self.request_is_dynamic(), self.bundles, lambda: self.ended)
            else:
                self._watched.result()
        self._enter_exchange(spark)
        self.master.begin_lending()
        return spark

    def watch(self) -> None:
        """In a thread: the application fails when Spark has asked for executors and none comes in time."""
        from raydp_ml.cluster import lending
        from raydp_ml.cluster import settings as registry
        from raydp_ml.cluster.waiting import wait_for_executors

        master = self.master
        if master is None:
            raise SessionStoppedError("the session is not started")
        timeout = registry.read(self.configs, "spark.ray.resource.timeout")
        watched: Future[None] = Future()
        self._watched = watched

        def wait() -> None:
            try:
                master.wait_for_hello(lambda: self.ended is not None)
                wait_for_executors(master, timeout, self.request_is_dynamic(), self.bundles, lambda: self.ended)
                master.begin_lending()
                watched.set_result(None)
            except RaydpMLError as error:
                master.give_up(str(error))
                watched.set_exception(error)

        threading.Thread(target=wait, name="raydp-ml-watch", daemon=True).start()
        lending.enter(master)

    def adopt(self, spark: SparkSession) -> ExchangeContext | None:
        """Take a session that the program made in this application's JVM, with SparkSession.builder for example.

        Returns
        -------
        ExchangeContext, optional
            None for a session of another JVM.
        """
        from raydp_ml.cluster import spark_seam

        if self.gateway is None or not spark_seam.runs_in(spark.sparkContext, self.gateway):
            return None
        if self.context is not None and self.spark is not None and self.spark.sparkContext is spark.sparkContext:
            return self.context
        self.spark = spark
        return self._enter_exchange(spark)

    def _enter_exchange(self, spark: SparkSession) -> ExchangeContext:
        import ray

        from raydp_ml.cluster import lending
        from raydp_ml.cluster import settings as registry
        from raydp_ml.exchange import context as contexts
        from raydp_ml.exchange.lease_collector import LeaseCollector
        from raydp_ml.exchange.ray_seam import fullest_store
        from raydp_ml.exchange.recompute import RecomputeService

        if self.master is None:
            raise SessionStoppedError("the session is not started")
        self.context = contexts.ExchangeContext(
            self.app_id,
            spark,
            self.owner,
            self.master.locate,
            self.master.host_actors,
            self.require_alive,
            registry.read(self.configs, "spark.ray.resource.timeout"),
            lending.ask_for,
            LeaseCollector(self._collect_garbage, lambda: ray.get(self.owner.leases.remote()), fullest_store),
        )
        contexts.enter(self.context)
        RecomputeService(self.context)
        lending.enter(self.master)
        return self.context

    def _spark_settings(self) -> dict[str, str]:
        import ray

        from raydp_ml.cluster import shuffle_service

        request = self.request
        settings = {
            "spark.master": _MASTER_URL,
            "spark.submit.deployMode": "client",
            **request.arguments(),
            "spark.driver.host": ray.util.get_node_ip_address(),
            "spark.authenticate": "true",
            # Jobs without a pool still run first in, first out; lost blocks can be computed first (RecomputePool.scala).
            "spark.scheduler.mode": "FAIR",
            # Frames that blocks can be computed from again hold their shuffles, which must not hold executors for ever.
            "spark.dynamicAllocation.shuffleTracking.timeout": "60s",
            # An executor whose node is to go hands its shuffle files and cached blocks to others, and then ends.
            "spark.decommission.enabled": "true",
            "spark.storage.decommission.enabled": "true",
            "spark.executor.decommission.forceKillTimeout": "120s",
        }
        if shuffle_service.is_wanted(self.configs):
            # A service that has ended took the files of all executors of its node with it.
            settings["spark.files.fetchFailure.unRegisterOutputOnHost"] = "true"
        if request.enable_hive:
            settings["spark.sql.catalogImplementation"] = "hive"
        settings.update(self.configs)
        given = [settings.get("spark.preferClassPath"), settings.get("spark.driver.extraClassPath")]
        settings["spark.driver.extraClassPath"] = os.pathsep.join(filter(None, [str(self.jar), *given]))
        return settings

    def _make_session(self, settings: Mapping[str, str]) -> SparkSession:
        from py4j.protocol import Py4JJavaError
        from pyspark import SparkConf, SparkContext
        from pyspark.errors.exceptions.captured import CapturedException
        from pyspark.sql import SparkSession

        conf = SparkConf()
        for key, value in settings.items():
            conf.set(key, value)
        try:
            SparkContext(conf=conf)
        except (Py4JJavaError, CapturedException) as error:
            # Its text comes from the JVM, which will be gone when the error is shown.
            raise RaydpMLError(f"Spark did not start: {error}") from None
        return SparkSession.builder.getOrCreate()

    def _check_feasible(self, configs: Mapping[str, str]) -> None:
        """An executor that no node could ever hold is an error at once, not after a timeout, unless nodes may come."""
        from raydp_ml.cluster.nodes import alive_nodes, autoscaler
        from raydp_ml.cluster.placement import resource_table

        executor = self._executor_request(configs)
        if not executor.nodes_that_fit(alive_nodes()) and autoscaler() is None:
            raise ResourceTimeoutError(
                "no node of the Ray cluster could ever hold one executor:\n"
                + resource_table(executor, self.request.num_executors)
                + "\nlower executor_cores or executor_memory, or add larger nodes"
            )

    def _executor_request(self, configs: Mapping[str, str]) -> Any:
        from raydp_ml.cluster.placement import ExecutorRequest, ExecutorSize

        settings = self.request.arguments() | dict(configs)
        heap_only = self.request.placement_group is not None
        return ExecutorRequest.of(ExecutorSize.of(settings, {}), settings, heap_only=heap_only)

    def _make_bundles(self, configs: Mapping[str, str]) -> Bundles | None:
        from raydp_ml.cluster import settings as registry
        from raydp_ml.cluster.placement import Bundles
        from raydp_ml.cluster.waiting import place_bundles

        request = self.request
        if request.placement_group is not None:
            warnings.warn(
                "executors in a placement group of yours reserve their heap only; leave room beside it for the JVM's other memory",
                stacklevel=6,
            )
            indexes = request.bundle_indexes or tuple(range(request.placement_group.bundle_count))
            return Bundles(request.placement_group, indexes, ours=False)
        if request.placement_group_strategy is None:
            return None
        timeout = registry.read(configs, "spark.ray.resource.timeout")
        executor = self._executor_request(configs)
        return place_bundles(executor, request.num_executors, request.placement_group_strategy, timeout)

    def request_is_dynamic(self) -> bool:
        return self.configs.get("spark.dynamicAllocation.enabled", "false").lower() == "true"

    # Life.

    def _collect_garbage(self) -> None:
        if self.spark is not None:
            jvm: Any = self.spark._jvm
            jvm.System.gc()

    def alive(self) -> bool:
        from raydp_ml.cluster import spark_seam

        if self.ended is None and self.spark is not None and self.spark.sparkContext._jsc is None:
            self.ended = "the Spark session was stopped"
        if self.ended is None and not self._is_connected():
            self.ended = _RAY_GONE
        if self.ended is None and self.context is not None and self.context.owner_lost is not None:
            self.ended = self.context.owner_lost
        if self.gateway is not None and not spark_seam.driver_alive(self.gateway):
            self.ended = self.ended or f"the Spark driver JVM ended with code {self.gateway.proc.poll()}"
            self._end_folder()
        return self.ended is None

    def can_begin(self) -> bool:
        """Whether there is a driver JVM that has not had a SparkContext."""
        unused = self.master is not None and not self.master.has_ended()
        return unused and self.gateway is not None and self.alive()

    def _is_connected(self) -> bool:
        from raydp_ml.cluster.ray_connection import connection

        return self.connection is not None and connection() == self.connection

    def require_alive(self) -> None:
        if not self.alive():
            raise SessionStoppedError(f"{self.ended}; start a new one with init_spark")

    def _driver_lost(self) -> None:
        if self.ended is None:
            self.ended = "the Spark driver JVM ended unexpectedly"

    def _ray_lost(self) -> None:
        """Spark has no executors any more, and its jobs would wait for others that nobody starts: they shall end, too."""
        self.ended = self.ended or _RAY_GONE
        threading.Thread(target=self.end, args=(True,), name="raydp-ml-end", daemon=True).start()

    # End.

    def leave(self) -> None:
        """In a process that was forked from the application's own: let go of it here, and end nothing."""
        from raydp_ml.cluster import forks, lending, spark_seam
        from raydp_ml.exchange import context as contexts

        contexts.leave(self.app_id)
        contexts.expect(forks.refuse)
        if self.master is not None:
            lending.leave(self.master)
        if self.gateway is not None:
            spark_seam.leave_driver(self.gateway, forks.refuse)
        self._end_folder()  # The other process's end of the janitor's pipe stays open.

    def end(self, cleanup_data: bool) -> None:
        """End everything, in the order in which one part needs another; each step even if one before it failed."""
        with self._ending:
            self.ended = self.ended or "the Spark session was stopped with stop_spark"
            from raydp_ml.exchange import context as contexts

            contexts.leave(self.app_id)
            for step in (
                self._end_spark,
                self._end_folder,
                self._end_master,
                lambda: self._end_owner(cleanup_data),
                self._end_bundles,
            ):
                try:
                    step()
                except Exception as error:
                    logger.warning("raydp_ml: a step of stopping the session failed: %s", error)

    def _end_spark(self) -> None:
        from raydp_ml.cluster import spark_seam

        if self.gateway is None:
            return
        if (
            self.spark is not None
            and self.spark.sparkContext._jsc is not None
            and spark_seam.driver_alive(self.gateway)
        ):
            self.spark.stop()
        gateway, self.gateway = self.gateway, None
        spark_seam.end_driver(gateway)

    def _end_folder(self) -> None:
        janitor, self.janitor = self.janitor, None
        if janitor is not None:
            janitor.dismiss()

    def _end_master(self) -> None:
        from raydp_ml.cluster import lending

        if self.master is not None:
            lending.leave(self.master)
            self.master.stop()

    def _end_owner(self, cleanup_data: bool) -> None:
        import ray

        if self.owner is None or not self._is_connected():
            return
        if cleanup_data:
            ray.kill(self.owner)
        else:
            ray.get(
                self.owner.spark_stopped.remote(
                    "the block was lost after Spark was stopped, so nobody can compute it again"
                )
            )
            _kept_owners.append(self.owner)
        self.owner = None

    def _end_bundles(self) -> None:
        from ray.util.placement_group import remove_placement_group

        if self.bundles is not None and self.bundles.ours and self._is_connected():
            remove_placement_group(self.bundles.group)
        self.bundles = None
