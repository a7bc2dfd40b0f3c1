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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raydp_ml.errors import ExecutorStartError, RaydpMLError, ResourceTimeoutError, SessionStoppedError
from raydp_ml.progress import waiting_for

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from ray.util.placement_group import PlacementGroup

    from raydp_ml.cluster.jvm import Janitor
    from raydp_ml.cluster.master import Master, Snapshot
    from raydp_ml.cluster.placement import Bundles
    from raydp_ml.exchange.context import ExchangeContext

logger = logging.getLogger(__name__)

_MASTER_URL = "spark-ray://cluster"
# Whoever waits longer is told for what.
_SILENCE_SECONDS = 10.0
# When some executors run, the session does not wait longer than this for the others.
_PATIENCE_SECONDS = 30.0
# ... and less when nothing moves: the others wait for room that nobody frees.
_STALL_SECONDS = 8.0
_RAY_GONE = "Ray was shut down, and with it the executors of the Spark session"
# Owners whose blocks shall live until this process ends (stop_spark(cleanup_data=False)): an actor ends with its last handle.
_kept_owners: list[Any] = []


@dataclass(frozen=True)
class SessionRequest:
    """What init_spark was asked for; two calls with the same request mean the same session."""

    app_name: str
    num_executors: int
    executor_cores: int
    executor_memory: int
    enable_hive: bool
    placement_group_strategy: str | None
    placement_group: PlacementGroup | None
    bundle_indexes: tuple[int, ...] | None
    configs: tuple[tuple[str, str], ...]


class Application:
    """A running application and everything that must end with it."""

    def __init__(self, request: SessionRequest) -> None:
        self.request = request
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

    # Start.

    def start(self) -> SparkSession:
        import ray

        from raydp_ml.cluster import class_archive, lending, shuffle_service, spark_seam
        from raydp_ml.cluster import settings as registry
        from raydp_ml.cluster.hosts import RayHosts
        from raydp_ml.cluster.jar import ensure_jar, spark_home
        from raydp_ml.cluster.java import COMPILE_WHAT_IS_HOT, find_java
        from raydp_ml.cluster.jvm import Janitor
        from raydp_ml.cluster.master import Master
        from raydp_ml.cluster.ray_connection import connection
        from raydp_ml.exchange import context as contexts
        from raydp_ml.exchange.lease_collector import LeaseCollector
        from raydp_ml.exchange.owner import BlockOwner
        from raydp_ml.exchange.ray_seam import fullest_store
        from raydp_ml.exchange.recompute import RecomputeService

        configs = dict(self.request.configs)
        registry.warn_unknown(configs)
        home = spark_home()
        find_java(home.version)
        jar = ensure_jar(home)
        _start_ray()
        self.connection = connection()
        self._check_feasible(configs)
        self.bundles = self._make_bundles(configs)
        node = ray.get_runtime_context().get_node_id()
        self.owner = _make_owner(ray.remote(BlockOwner), registry.owner_resources(configs), node)
        secret = secrets.token_hex(32)
        services = None
        if shuffle_service.is_wanted(configs):
            told = {"spark.authenticate": "true"} | configs
            services = shuffle_service.ShuffleServices(shuffle_service.ServiceLaunch(self.app_id, told, secret))
        lends = registry.read(configs, "spark.ray.executor.lendCpus") and self.request.placement_group is None
        nodes: list[str] = []
        if lends and self.bundles is not None:
            # The group has said which nodes the strategy takes; each executor reserves its own place there.
            nodes = self.bundles.nodes()
            self._end_bundles()
        hosts = RayHosts(self.owner, self.bundles, services, lends, nodes)
        self.master = Master(
            self.app_id,
            hosts,
            jar,
            secret,
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
        spark_seam.drop_idle_driver()
        # PySpark reads it when the context is made, and when a Python function is sent to the executors.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        self.janitor = Janitor()
        folder = self.janitor.own(tempfile.gettempdir(), self.app_id, "driver")
        environment = {
            "RAYDP_ML_MASTER_PORT": str(self.master.port),
            "RAYDP_ML_MASTER_TOKEN": self.master.token,
            "RAYDP_ML_APP_ID": self.app_id,
            "SPARK_SUBMIT_OPTS": " ".join(
                [
                    os.environ.get("SPARK_SUBMIT_OPTS", ""),
                    f"-Djava.io.tmpdir={folder}",
                    *COMPILE_WHAT_IS_HOT,
                    *class_archive.java_options(home, jar),
                ]
            ).strip(),
            "SPARK_LOCAL_IP": os.environ.get("SPARK_LOCAL_IP", ray.util.get_node_ip_address()),
        }
        settings = self._spark_settings(configs, str(jar))
        if "spark.local.dir" not in settings:
            environment["SPARK_LOCAL_DIRS"] = os.environ.get("SPARK_LOCAL_DIRS", str(folder))
        driver = spark_seam.spawn_driver(settings, environment, folder)
        self.janitor.tell(f"wait {driver.process.pid}")
        with waiting_for("Spark starts"):
            self.gateway = spark_seam.connect_driver(driver)
            self.spark = self._make_session(settings | {"spark.authenticate.secret": secret})
        timeout = registry.read(configs, "spark.ray.resource.timeout")
        with waiting_for("Spark's executors start"):
            self._wait_for_executors(timeout)
        context = contexts.ExchangeContext(
            self.app_id,
            self.spark,
            self.owner,
            self.master.locate,
            self.master.host_actors,
            self.require_alive,
            timeout,
            lending.ask_for,
            LeaseCollector(self._collect_garbage, lambda: ray.get(self.owner.leases.remote()), fullest_store),
        )
        contexts.enter(context)
        self.context = context
        RecomputeService(context)
        self.master.begin_lending()
        lending.enter(self.master)
        return self.spark

    def _spark_settings(self, configs: Mapping[str, str], jar: str) -> dict[str, str]:
        import ray

        from raydp_ml.cluster import shuffle_service

        request = self.request
        settings = {
            "spark.master": _MASTER_URL,
            "spark.submit.deployMode": "client",
            "spark.app.name": request.app_name,
            "spark.executor.instances": str(request.num_executors),
            "spark.executor.cores": str(request.executor_cores),
            "spark.executor.memory": f"{max(1, request.executor_memory >> 20)}m",
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
        if shuffle_service.is_wanted(configs):
            # A service that has ended took the files of all executors of its node with it.
            settings["spark.files.fetchFailure.unRegisterOutputOnHost"] = "true"
        if request.enable_hive:
            settings["spark.sql.catalogImplementation"] = "hive"
        settings.update(configs)
        given = settings.get("spark.driver.extraClassPath")
        settings["spark.driver.extraClassPath"] = os.pathsep.join(filter(None, [jar, given]))
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

        request = self.request
        settings = {
            "spark.executor.cores": str(request.executor_cores),
            "spark.executor.memory": f"{max(1, request.executor_memory >> 20)}m",
        } | dict(configs)
        return ExecutorRequest.of(
            ExecutorSize.of(settings, {}), settings, heap_only=request.placement_group is not None
        )

    def _make_bundles(self, configs: Mapping[str, str]) -> Bundles | None:
        import ray
        from ray.util.placement_group import placement_group

        from raydp_ml.cluster import settings as registry
        from raydp_ml.cluster.placement import Bundles, resource_table

        request = self.request
        if request.placement_group is not None:
            warnings.warn(
                "executors in a placement group of yours reserve their heap only; leave room beside it for the JVM's other memory",
                stacklevel=5,
            )
            indexes = request.bundle_indexes or tuple(range(request.placement_group.bundle_count))
            return Bundles(request.placement_group, indexes, ours=False)
        if request.placement_group_strategy is None:
            return None
        executor = self._executor_request(configs)
        group = placement_group([executor.bundle()] * request.num_executors, strategy=request.placement_group_strategy)
        bundles = Bundles(group, tuple(range(request.num_executors)), ours=True)
        self.bundles = bundles
        timeout = registry.read(configs, "spark.ray.resource.timeout")
        ready, _ = ray.wait([group.ready()], timeout=min(timeout, _SILENCE_SECONDS))
        if not ready and timeout > _SILENCE_SECONDS:
            table = resource_table(executor, request.num_executors, bundles)
            warnings.warn(_still_waiting(timeout, table), stacklevel=5)
            ready, _ = ray.wait([group.ready()], timeout=timeout - _SILENCE_SECONDS)
        if not ready:
            raise ResourceTimeoutError(
                f"the placement group was not placed within {timeout:.0f} s (spark.ray.resource.timeout):\n"
                + resource_table(executor, request.num_executors, bundles)
            )
        return bundles

    def _wait_for_executors(self, timeout: float) -> None:
        """Until all executors registered, or one has and the others do not come, or none came in time."""
        import time

        from raydp_ml.cluster.placement import resource_table

        master = self.master
        if master is None:
            raise SessionStoppedError("the session is not started")
        began = moved = time.monotonic()
        warned = False
        last: Snapshot | None = None

        def table() -> str:
            return resource_table(now.request, now.wanted, self.bundles) if now.request else ""

        while True:
            now = master.snapshot()
            if master.failure is not None:
                raise ExecutorStartError(master.failure)
            if self.ended is not None:
                raise SessionStoppedError(self.ended)
            if now.wanted and now.running >= now.wanted:
                return
            if self.request_is_dynamic() and now.running >= 1:
                return
            clock = time.monotonic()
            if now != last:
                moved, last = clock, now
            missing = now.wanted - now.running
            stalled = now.placed <= now.running and clock - moved >= _STALL_SECONDS
            if now.running and (clock - began >= _PATIENCE_SECONDS or stalled):
                warnings.warn(
                    f"{now.running} of {now.wanted} executors run, {missing} wait for resources and join when there are some:"
                    f"\n{table()}",
                    stacklevel=5,
                )
                return
            if clock - began >= timeout:
                raise ResourceTimeoutError(
                    f"no executor started within {timeout:.0f} s (spark.ray.resource.timeout):\n{table()}"
                )
            if clock - began >= _SILENCE_SECONDS and not warned and not now.running:
                warned = True
                warnings.warn(_still_waiting(timeout, table()), stacklevel=5)
            master.wait_for_change(now, 0.5)

    def request_is_dynamic(self) -> bool:
        return dict(self.request.configs).get("spark.dynamicAllocation.enabled", "false").lower() == "true"

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


def _start_ray() -> None:
    import ray

    if not ray.is_initialized():
        with waiting_for("Ray starts"):
            ray.init(include_dashboard=False)


def _make_owner(actor_class: Any, resources: Mapping[str, float], node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from raydp_ml.cluster.nodes import node_label

    custom = {name: amount for name, amount in resources.items() if amount}
    # Ray lets a random node place an actor that needs nothing, and one that joined a moment ago may not know the wanted
    # node yet and keep the actor. One that needs something is placed by the driver's node, which knows itself (Ray 2.60).
    custom = custom or {node_label(node): 0.0001}
    options: dict[str, Any] = {
        "num_cpus": custom.pop("cpu", custom.pop("CPU", 0)),
        "memory": custom.pop("memory", None),
        "max_concurrency": 1000,
        "resources": custom,
        # Ray's memory monitor, or anybody else, may kill it. Its handles then mean the one that Ray starts in its place, and
        # calls that it had not answered are made again.
        "max_restarts": -1,
        "max_task_retries": -1,
    }
    # Beside the driver, so that both are lost together or not at all.
    return actor_class.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True), **options).remote()


def _still_waiting(timeout: float, table: str) -> str:
    return f"still waiting for executors, {timeout - _SILENCE_SECONDS:.0f} s more at most:\n{table}"
