"""init_spark and stop_spark: one Spark application inside the Ray cluster, for this process."""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from raydp_ml.errors import (
    ExecutorStartError,
    InvalidTypeError,
    InvalidValueError,
    RaydpMLError,
    ResourceTimeoutError,
    SessionStoppedError,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from ray.util.placement_group import PlacementGroup

    from raydp_ml.cluster.master import Master, Snapshot
    from raydp_ml.cluster.placement import Bundles

logger = logging.getLogger(__name__)

_MASTER_URL = "spark-ray://cluster"
_STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
# When some executors run, the session does not wait longer than this for the others.
_PATIENCE_SECONDS = 30.0
# ... and less when nothing moves: the others wait for room that nobody frees.
_STALL_SECONDS = 8.0


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


class _Session:
    """A running application and everything that must end with it."""

    def __init__(self, request: SessionRequest) -> None:
        self.request = request
        self.app_id = f"raydp-ml-{secrets.token_hex(6)}"
        self.master: Master | None = None
        self.owner: Any = None
        self.bundles: Bundles | None = None
        self.gateway: Any = None
        self.spark: SparkSession | None = None
        self.ended: str | None = None
        self._ending = threading.RLock()

    # Start.

    def start(self) -> SparkSession:
        import ray

        from raydp_ml.cluster import class_archive, spark_seam
        from raydp_ml.cluster import settings as registry
        from raydp_ml.cluster.jar import ensure_jar, spark_home
        from raydp_ml.cluster.java import find_java
        from raydp_ml.cluster.master import Master
        from raydp_ml.cluster.placement import RayHosts
        from raydp_ml.exchange import context as contexts
        from raydp_ml.exchange.owner import BlockOwner
        from raydp_ml.exchange.recompute import RecomputeService

        configs = dict(self.request.configs)
        registry.warn_unknown(configs)
        home = spark_home()
        find_java(home.version)
        jar = ensure_jar(home)
        _start_ray()
        _stop_at_exit()
        self._check_feasible(configs)
        self.bundles = self._make_bundles(configs)
        node = ray.get_runtime_context().get_node_id()
        self.owner = _make_owner(ray.remote(BlockOwner), registry.owner_resources(configs), node)
        secret = secrets.token_hex(32)
        hosts = RayHosts(self.owner, self.bundles)
        if not self.request_is_dynamic():
            executors = int(configs.get("spark.executor.instances", self.request.num_executors))
            hosts.warm(self._executor_request(configs), executors)
        self.master = Master(
            self.app_id,
            hosts,
            jar,
            secret,
            release=lambda lease: self.owner.release.remote(lease),
            lost=self._driver_lost,
            max_start_failures=registry.read(configs, "spark.ray.executor.maxStartFailures"),
        )
        spark_seam.drop_idle_driver()
        # PySpark reads it when the context is made, and when a Python function is sent to the executors.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        environment = {
            "RAYDP_ML_MASTER_PORT": str(self.master.port),
            "RAYDP_ML_MASTER_TOKEN": self.master.token,
            "RAYDP_ML_APP_ID": self.app_id,
            "SPARK_SUBMIT_OPTS": " ".join(
                [os.environ.get("SPARK_SUBMIT_OPTS", ""), *class_archive.java_options(home, jar)]
            ).strip(),
            "SPARK_LOCAL_IP": os.environ.get("SPARK_LOCAL_IP", ray.util.get_node_ip_address()),
        }
        settings = self._spark_settings(configs, str(jar))
        self.gateway = spark_seam.connect_driver(spark_seam.spawn_driver(settings, environment))
        self.spark = self._make_session(settings | {"spark.authenticate.secret": secret})
        timeout = registry.read(configs, "spark.ray.resource.timeout")
        self._wait_for_executors(timeout)
        context = contexts.ExchangeContext(
            self.app_id,
            self.spark,
            self.owner,
            self.master.locate,
            self.master.host_actors,
            self.require_alive,
            timeout,
        )
        contexts.enter(context)
        RecomputeService(context)
        return self.spark

    def _spark_settings(self, configs: Mapping[str, str], jar: str) -> dict[str, str]:
        import ray

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
        ready, _ = ray.wait([group.ready()], timeout=timeout)
        if not ready:
            raise ResourceTimeoutError(
                f"the placement group ({request.placement_group_strategy}, {request.num_executors} bundles) is still pending "
                f"after {timeout:.0f} s (spark.ray.resource.timeout):\n"
                + resource_table(executor, request.num_executors)
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
            table = resource_table(now.request, now.wanted) if now.request else ""
            stalled = now.placed <= now.running and clock - moved >= _STALL_SECONDS
            if now.running and (clock - began >= _PATIENCE_SECONDS or stalled):
                warnings.warn(
                    f"{now.running} of {now.wanted} executors run, {missing} wait for resources and join when there are some:"
                    f"\n{table}",
                    stacklevel=5,
                )
                return
            if clock - began >= timeout:
                raise ResourceTimeoutError(
                    f"no executor started within {timeout:.0f} s (spark.ray.resource.timeout):\n{table}"
                )
            if clock - began >= 10.0 and not warned and not now.running:
                warned = True
                warnings.warn(f"still waiting for executors, {timeout - 10:.0f} s more at most:\n{table}", stacklevel=5)
            master.wait_for_change(now, 0.5)

    def request_is_dynamic(self) -> bool:
        return dict(self.request.configs).get("spark.dynamicAllocation.enabled", "false").lower() == "true"

    # Life.

    def alive(self) -> bool:
        from raydp_ml.cluster import spark_seam

        if self.ended is None and self.spark is not None and self.spark.sparkContext._jsc is None:
            self.ended = "the Spark session was stopped"
        if self.ended is None and self.gateway is not None and not spark_seam.driver_alive(self.gateway):
            self.ended = f"the Spark driver JVM ended with code {self.gateway.proc.poll()}"
        return self.ended is None

    def require_alive(self) -> None:
        if not self.alive():
            raise SessionStoppedError(f"{self.ended}; start a new one with init_spark")

    def _driver_lost(self) -> None:
        if self.ended is None:
            self.ended = "the Spark driver JVM ended unexpectedly"

    # End.

    def end(self, cleanup_data: bool) -> None:
        """End everything, in the order in which one part needs another; each step even if one before it failed."""
        with self._ending:
            self.ended = self.ended or "the Spark session was stopped with stop_spark"
            from raydp_ml.exchange import context as contexts

            contexts.leave(self.app_id)
            for step in (self._end_spark, self._end_master, lambda: self._end_owner(cleanup_data), self._end_bundles):
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

    def _end_master(self) -> None:
        if self.master is not None:
            self.master.stop()

    def _end_owner(self, cleanup_data: bool) -> None:
        import ray

        if self.owner is None or not ray.is_initialized():
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
        import ray
        from ray.util.placement_group import remove_placement_group

        if self.bundles is not None and self.bundles.ours and ray.is_initialized():
            remove_placement_group(self.bundles.group)
        self.bundles = None


_lock = threading.RLock()
_session: _Session | None = None
# Owners whose blocks shall live until this process ends (stop_spark(cleanup_data=False)): an actor ends with its last handle.
_kept_owners: list[Any] = []


def init_spark(
    app_name: str = "raydp-ml",
    num_executors: int = 2,
    executor_cores: int = 1,
    executor_memory: str | int = "1g",
    enable_hive: bool = False,
    fault_tolerance_mode: bool = False,
    placement_group_strategy: str | None = None,
    placement_group: PlacementGroup | None = None,
    placement_group_bundle_indexes: Sequence[int] | None = None,
    configs: Mapping[str, Any] | None = None,
    *,
    fault_tolerant_mode: bool = False,
) -> SparkSession:
    """Start Spark inside Ray, with executors that are children of Ray actors.

    Starts Ray on this machine when it is not running. Calling it again with the same arguments gives the same session.

    Parameters
    ----------
    app_name : str, default "raydp-ml"
        Name of the application.
    num_executors : int, default 2
        Executors; at least 1.
    executor_cores : int, default 1
        Cores of each, which Ray counts as CPUs.
    executor_memory : str or int, default "1g"
        Heap of each: ``"4GB"``, ``"4 GB"``, ``"4g"``, or bytes. Ray counts heap and overhead.
    enable_hive : bool, default False
        Use Hive's catalog.
    fault_tolerance_mode, fault_tolerant_mode : bool, default False
        Accepted for programs written for RayDP: recovery of blocks is always on.
    placement_group_strategy : {"PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"}, optional
        Make a placement group with one bundle per executor; it goes with the session.
    placement_group : ray.util.placement_group.PlacementGroup, optional
        Put the executors into this one instead.
    placement_group_bundle_indexes : sequence of int, optional
        Which of its bundles to use; None: all.
    configs : mapping, optional
        Spark configuration, which wins over the arguments above.

    Returns
    -------
    SparkSession
        When not all executors fit, it is there as soon as one runs, with a warning that says what is missing.
        Use it in a ``with`` statement, or end it with :func:`stop_spark`.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        For an argument that cannot be used, or when another session runs.
    ResourceTimeoutError
        When no executor can start: at once if no node could ever hold one, else after ``spark.ray.resource.timeout``.
    ExecutorStartError
        When executors die at start again and again; holds the end of an executor's log.

    Examples
    --------
    >>> import raydp_ml
    >>> with raydp_ml.init_spark("doc", num_executors=1, executor_memory="512m") as spark:  # doctest: +SKIP
    ...     spark.range(10).count()
    10
    """
    global _session
    if not sys.platform.startswith("linux"):
        raise RaydpMLError(f"Spark on Ray runs on Linux; this is {sys.platform}")
    request = _check_request(
        app_name, num_executors, executor_cores, executor_memory, enable_hive, (fault_tolerance_mode, fault_tolerant_mode),
        placement_group_strategy, placement_group, placement_group_bundle_indexes, configs,
    )  # fmt: skip
    with _lock:
        if _session is not None:
            if _session.alive():
                if _session.request == request and _session.spark is not None:
                    return _session.spark
                raise InvalidValueError(
                    f"a session named {_session.request.app_name!r} runs with other arguments; call stop_spark() before init_spark"
                )
            _session.end(cleanup_data=True)
            _session = None
        _refuse_foreign_context()
        session = _Session(request)
        try:
            spark = session.start()
        except BaseException:
            session.end(cleanup_data=True)
            raise
        _session = session
        return spark


def stop_spark(cleanup_data: bool = True) -> None:
    """End the session: Spark, its executors and their files. Nothing happens when there is none.

    Parameters
    ----------
    cleanup_data : bool, default True
        Free the blocks of Datasets made from Spark frames, too. False keeps them until this process ends; a block that Ray loses
        then is lost. (Ray keeps blocks of less than 100 KB with their reference in either case.)

    Examples
    --------
    >>> import raydp_ml
    >>> raydp_ml.stop_spark()
    """
    global _session
    with _lock:
        if _session is not None:
            session, _session = _session, None
            session.end(cleanup_data)


def spark_info() -> dict[str, Any]:
    """What runs: application id, Spark version, executors by id with node, address, pid and log file.

    Returns
    -------
    dict
        Empty when there is no session.

    Examples
    --------
    >>> import raydp_ml
    >>> raydp_ml.spark_info()
    {}
    """
    session = _session
    if session is None or not session.alive() or session.master is None or session.spark is None:
        return {}
    return {
        "app_id": session.app_id,
        "app_name": session.request.app_name,
        "spark_version": session.spark.version,
        "executors": {executor_id: vars(info) for executor_id, info in session.master.executors().items()},
    }


def executor_files(path: str) -> dict[str, bytes] | None:
    """Files that executors wrote below a local folder of their nodes, by relative path; None when no session of ours runs.

    Parameters
    ----------
    path : str
        The folder.
    """
    import ray

    session = _session
    if session is None or not session.alive() or session.master is None:
        return None
    files: dict[str, bytes] = {}
    for tree in ray.get([actor.read_tree.remote(path) for actor in session.master.host_actors()]):
        files.update(tree)
    return files


def scatter_files(path: str, files: Mapping[str, bytes]) -> bool:
    """Write files below a local folder of every node that has an executor; False when no session of ours runs.

    Parameters
    ----------
    path : str
        The folder.
    files : mapping
        Contents by relative path.
    """
    import ray

    session = _session
    if session is None or not session.alive() or session.master is None:
        return False
    ray.get([actor.write_tree.remote(path, dict(files)) for actor in session.master.host_actors()])
    return True


def _check_request(
    app_name: str,
    num_executors: int,
    executor_cores: int,
    executor_memory: str | int,
    enable_hive: bool,
    fault_tolerance: tuple[bool, bool],
    strategy: str | None,
    group: PlacementGroup | None,
    indexes: Sequence[int] | None,
    configs: Mapping[str, Any] | None,
) -> SessionRequest:
    from raydp_ml.cluster.settings import parse_memory

    if not isinstance(app_name, str) or not app_name:
        raise InvalidTypeError(f"app_name={app_name!r} must be a string with at least one character")
    for name, count in (("num_executors", num_executors), ("executor_cores", executor_cores)):
        if isinstance(count, bool) or not isinstance(count, int):
            raise InvalidTypeError(f"{name}={count!r} must be a whole number")
        if count < 1:
            raise InvalidValueError(f"{name}={count} must be at least 1")
    for name, flag in zip(("fault_tolerance_mode", "fault_tolerant_mode"), fault_tolerance, strict=True):
        if not isinstance(flag, bool):
            raise InvalidTypeError(f"{name}={flag!r} must be True or False")
    if strategy is not None and strategy not in _STRATEGIES:
        raise InvalidValueError(f"placement_group_strategy={strategy!r} must be one of {', '.join(_STRATEGIES)}")
    if strategy is not None and group is not None:
        raise InvalidValueError("give placement_group_strategy or placement_group, not both")
    if indexes is not None:
        if group is None:
            raise InvalidValueError("placement_group_bundle_indexes needs placement_group")
        wrong = [i for i in indexes if not isinstance(i, int) or not 0 <= i < group.bundle_count]
        if wrong or not indexes:
            raise InvalidValueError(
                f"placement_group_bundle_indexes={list(indexes)} must name bundles from 0 to {group.bundle_count - 1}"
            )
    if configs is not None and not isinstance(configs, Mapping):
        raise InvalidTypeError(f"configs must be a dict of Spark settings, not {type(configs).__name__}")
    texts = {str(key): _setting_text(value) for key, value in (configs or {}).items()}
    return SessionRequest(
        app_name,
        num_executors,
        executor_cores,
        parse_memory(executor_memory, "executor_memory"),
        bool(enable_hive),
        strategy,
        group,
        tuple(indexes) if indexes is not None else None,
        tuple(sorted(texts.items())),
    )


def _setting_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _refuse_foreign_context() -> None:
    from raydp_ml.cluster import spark_seam

    context = spark_seam.active_context()
    if context is not None:
        raise InvalidValueError(
            f"a SparkContext with master {context.master!r} already runs in this process; stop it before init_spark"
        )


def _start_ray() -> None:
    import ray

    if not ray.is_initialized():
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
    }
    # Beside the driver, so that both are lost together or not at all.
    return actor_class.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True), **options).remote()


@cache
def _stop_at_exit() -> None:
    """Once, and after Ray was imported: exit handlers run last in, first out, and Spark has to go before Ray does."""
    atexit.register(stop_spark)
