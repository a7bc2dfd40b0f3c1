"""The Ray actor that hosts one executor JVM: both live and die together."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

import ray
from ray.actor import ActorHandle

from raydp_ml.cluster import class_archive, python_daemon
from raydp_ml.cluster.console import log4j_option
from raydp_ml.cluster.jar import spark_home
from raydp_ml.cluster.java import COMPILE_WHAT_IS_HOT, find_java
from raydp_ml.cluster.jvm import ChildJvm
from raydp_ml.cluster.node_files import DriverFiles, fetch_archive, jar_here
from raydp_ml.cluster.nodes import session_logs
from raydp_ml.cluster.prediction_zygote import PredictionZygote
from raydp_ml.cluster.shuffle_service import ServicePlace
from raydp_ml.errors import MissingDependencyError, RaydpMLError
from raydp_ml.exchange.block_server import BlockServer

_SMALLEST_SHM = 256 << 20


@dataclass(frozen=True)
class ExecutorLaunch:
    """All that one executor needs to start. Secrets come this way because a runtime_env would write them into a log."""

    app_id: str
    executor_id: str
    profile_id: int
    cores: int
    heap_mib: int
    driver_url: str
    java_options: tuple[str, ...]
    environment: dict[str, str]
    settings: dict[str, str]
    resources: dict[str, int]
    files: DriverFiles
    secret: str | None = field(repr=False)
    log4j: tuple[str, bytes] | None = None
    log_to_driver: bool = False


@dataclass(frozen=True)
class HostInfo:
    """Where an executor runs."""

    node_id: str
    address: str
    pid: int
    log: str


@dataclass(frozen=True)
class ExitReport:
    """How an executor JVM ended."""

    code: int
    log_tail: str


class ExecutorHost:
    """Starts one executor JVM as its child, and serves Ray blocks to it."""

    def __init__(self, owner: ActorHandle) -> None:
        self._owner = owner
        # Here and not in start(): the actor is made while the driver JVM still starts, and these take a moment.
        try:
            self._spark = spark_home()
            self._java = find_java(self._spark.version)
        except MissingDependencyError as error:
            address = ray.util.get_node_ip_address()
            raise MissingDependencyError(f"on the node {address} (Ray's id {self.node_id()}): {error}") from error
        self._jvm = ChildJvm("executor")

    def __repr__(self) -> str:
        return ray.get_runtime_context().get_actor_name() or super().__repr__()

    def node_id(self) -> str:
        """Node that it runs on."""
        return ray.get_runtime_context().get_node_id()

    def start(self, launch: ExecutorLaunch, service: ActorHandle | None = None) -> HostInfo:
        """Start the JVM.

        Parameters
        ----------
        launch : ExecutorLaunch
            What it needs.
        service : ActorHandle, optional
            The node's :class:`~raydp_ml.cluster.shuffle_service.ShuffleService`, which keeps its shuffle files.

        Returns
        -------
        HostInfo
            Node, address, process id and log file.
        """
        self._prepare(launch, ray.get(service.place.remote()) if service is not None else None)
        log = session_logs() / f"{launch.app_id}-executor-{launch.executor_id}.log"
        self._jar = jar_here(launch.files, self._work)
        # What this process prints Ray shows on the driver, with the name below in front.
        pid = self._jvm.start(self._command(), self._environment(), self._work, log, repeats=launch.log_to_driver)
        arguments = (launch.files, self._spark, self._jar)
        threading.Thread(target=fetch_archive, args=arguments, name="raydp-ml-archive", daemon=True).start()
        if service is not None:
            threading.Thread(target=self._end_with, args=(service,), name="raydp-ml-service-watch", daemon=True).start()
        return HostInfo(self.node_id(), ray.util.get_node_ip_address(), pid, str(log))

    def _prepare(self, launch: ExecutorLaunch, place: ServicePlace | None) -> None:
        self._launch = launch
        self._work = self._jvm.own(tempfile.gettempdir(), launch.app_id, launch.executor_id)
        self._staging = self._jvm.own(self._staging_base(), launch.app_id, launch.executor_id) / "staging"
        # It is there already where memory and disk are the same folder.
        self._staging.mkdir(exist_ok=True)
        # For when the folder above, which is in memory, has no room.
        self._staging_disk = self._work / "staging"
        self._staging_disk.mkdir(exist_ok=True)
        self._temporary = self._work / "tmp"
        self._temporary.mkdir()
        self._modules = self._work / "python"
        self._modules.mkdir()
        python_daemon.write_module(self._modules)
        if place is None:
            configured = launch.settings.get("spark.local.dir")
            self._local_folders = self._jvm.local_folders(self._work, configured, launch.app_id, launch.executor_id)
            self._service_options = []
        else:
            self._local_folders = list(place.folders)
            # Of the keys that an executor takes from its own command line (SparkConf.isExecutorStartupConf).
            self._service_options = [f"-Dspark.shuffle.service.port={place.port}"]
        self._token = secrets.token_hex(16)
        self._zygote = PredictionZygote(self._work / "p", self._environment() | self._threads())
        self._server = BlockServer(self._work / "s", self._staging, self._staging_disk, self._token, self._owner)

    def _end_with(self, service: ActorHandle) -> None:
        """Executors whose shuffle files are gone end too, and others take their place."""
        try:
            ray.get(service.wait_exit.remote())
        finally:
            self._jvm.stop(0)

    def _staging_base(self) -> str:
        chosen = os.environ.get("RAYDP_ML_STAGING_DIR") or self._launch.settings.get("spark.ray.staging.dir")
        if chosen:
            return chosen
        if os.path.isdir("/dev/shm") and shutil.disk_usage("/dev/shm").free >= _SMALLEST_SHM:
            return "/dev/shm"
        return tempfile.gettempdir()

    def _command(self) -> list[str]:
        launch, home = self._launch, self._spark
        jar = self._jar
        keys = ("spark.ray.preferClassPath", "raydp.executor.extraClassPath", "spark.executor.extraClassPath")
        extra = [launch.settings.get(key) for key in keys]
        conf = [str(home.path / "conf")] if (home.path / "conf").is_dir() else []
        # The order of bin/spark-class, which since Spark 4 names slf4j-api twice: a class archive fits one class path only.
        first = [str(path) for path in home.jars if path.name.startswith("slf4j-api-") and home.line >= "4"]
        class_path = [str(jar), *(entry for entry in extra if entry), *conf, *first, str(home.path / "jars" / "*")]
        return [
            self._java, "-cp", os.pathsep.join(class_path), f"-Xmx{launch.heap_mib}m",
            # What the JVM leaves in its temporary folder goes with the executor, also after a SIGKILL.
            f"-Djava.io.tmpdir={self._temporary}", "-XX:-UsePerfData",
            *self._log4j(),
            *COMPILE_WHAT_IS_HOT, *class_archive.java_options(home, jar), *launch.java_options, *self._service_options,
            # A setting of the user's own comes from the driver, and wins.
            f"-Dspark.python.daemon.module={python_daemon.MODULE}",
            "org.apache.spark.executor.CoarseGrainedExecutorBackend",
            "--driver-url", launch.driver_url, "--executor-id", launch.executor_id,
            "--hostname", ray.util.get_node_ip_address(), "--cores", str(launch.cores),
            "--app-id", launch.app_id, "--resourceProfileId", str(launch.profile_id), *self._resources_file(),
        ]  # fmt: skip

    def _log4j(self) -> list[str]:
        """The user's Log4j configuration, which lies on the driver's machine."""
        if self._launch.log4j is None:
            return []
        name, content = self._launch.log4j
        path = self._work / name
        path.write_bytes(content)
        return [log4j_option(path)]

    def _resources_file(self) -> list[str]:
        """Addresses of the resources that Spark's tasks ask for: the GPUs that Ray gave to this actor, numbers for others.

        Its form is that of Spark's ResourceAllocation (org.apache.spark.resource.ResourceUtils).
        """
        if not self._launch.resources:
            return []
        told = []
        for name, amount in self._launch.resources.items():
            given = ray.get_runtime_context().get_accelerator_ids().get(name.upper(), [])
            addresses = given or [str(number) for number in range(amount)]
            told.append({"id": {"componentName": "spark.executor", "resourceName": name}, "addresses": addresses})
        path = self._work / "resources.json"
        path.write_text(json.dumps(told))
        return ["--resourcesFile", str(path)]

    def _environment(self) -> dict[str, str]:
        launch = self._launch
        # Ray put the driver's runtime_env and script folder on this process's path; Python workers of the executor see the same.
        path = [str(self._modules), *(entry for entry in sys.path if entry and os.path.exists(entry))]
        environment = dict(os.environ)
        environment.update(
            SPARK_HOME=str(self._spark.path),
            SPARK_LOCAL_DIRS=",".join(self._local_folders),
            PYSPARK_PYTHON=sys.executable,
            PYTHONPATH=os.pathsep.join(path),
            RAYDP_ML_STAGING=str(self._staging),
            RAYDP_ML_STAGING_DISK=str(self._staging_disk),
            RAYDP_ML_HOST_SOCKET=str(self._work / "s"),
            RAYDP_ML_HOST_TOKEN=self._token,
        )
        environment[python_daemon.SOCKET] = str(self._work / "p")
        environment.update({k: v for k, v in launch.environment.items() if k != "PYTHONPATH"})
        if launch.secret is not None:
            environment["_SPARK_AUTH_SECRET"] = launch.secret
        # An executor is no driver of a Ray job, and numeric libraries in Python workers follow spark.executor.cores.
        environment.pop("RAY_JOB_ID", None)
        return environment

    def _threads(self) -> dict[str, str]:
        """How many threads Spark gives the libraries of a Python worker (BasePythonRunner, 3.5 to 4.3)."""
        settings = self._launch.settings
        name = "OMP_NUM_THREADS"
        return {name: settings.get(f"spark.executorEnv.{name}") or settings.get("spark.task.cpus") or "1"}

    def warm_predictions(self, modules: tuple[str, ...]) -> str:
        """Have what a model needs to predict imported on this node; returns where the process is found that does."""
        return self._zygote.warm(modules)

    def share_predictions(self, path: str) -> None:
        """Use the process of another host of this node for predictions."""
        self._zygote.share(path)

    def wait_exit(self) -> ExitReport:
        """Wait for the JVM's end.

        Returns
        -------
        ExitReport
            Exit code (negative: the signal) and the last lines of its log.
        """
        return ExitReport(self._jvm.wait(), self._jvm.log_tail())

    def stop(self, grace: float = 3.0) -> None:
        """End the JVM: SIGTERM, and SIGKILL after ``grace`` seconds."""
        self._jvm.stop(grace)

    def read_staged(self, paths: list[str], vector_sizes: dict[str, int]) -> list:
        """Staged blocks as Arrow tables, for a task on another node; the files are removed."""
        from raydp_ml.exchange.blocks import take_file

        return [take_file(self._own(path), vector_sizes) for path in paths]

    def discard_staged(self, export_id: str) -> None:
        """Remove what a conversion that failed has staged here (PartitionWriter.scala puts its id in front)."""
        for folder in (self._staging, self._staging_disk):
            for path in folder.glob(f"{export_id}-*.arrow"):
                path.unlink(missing_ok=True)

    def _own(self, path: str) -> str:
        if Path(path).parent not in (self._staging, self._staging_disk):
            raise RaydpMLError(f"{path} is not in this host's staging folders")
        return path

    def read_tree(self, path: str) -> dict[str, bytes]:
        """Files below a folder of this node, by relative path; empty when there is no such folder here."""
        top = Path(path)
        return {str(file.relative_to(top)): file.read_bytes() for file in top.rglob("*") if file.is_file()}

    def write_tree(self, path: str, files: dict[str, bytes]) -> None:
        """Write files below a folder of this node."""
        for name, content in files.items():
            target = Path(path) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
