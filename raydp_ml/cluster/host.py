"""The Ray actor that hosts one executor JVM: both live and die together."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

import ray
from ray.actor import ActorHandle

from raydp_ml.cluster import class_archive
from raydp_ml.cluster.jar import find_jar, spark_home
from raydp_ml.cluster.java import find_java
from raydp_ml.errors import RaydpMLError
from raydp_ml.exchange.block_server import BlockServer

_SMALLEST_SHM = 256 << 20
_LOG_TAIL_LINES = 40


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
    jar_name: str
    jar: bytes = field(repr=False)
    secret: str | None = field(repr=False)


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


def private_folder(base: str | os.PathLike[str], app_id: str, *parts: str) -> Path:
    """Make ``base/app_id/parts`` so that only this user can enter it.

    Raises
    ------
    RaydpMLError
        When somebody else made the folder, or others may enter it.
    """
    top = Path(base) / app_id
    Path(base).mkdir(parents=True, exist_ok=True)
    while True:
        top.mkdir(mode=0o700, exist_ok=True)
        try:
            status = top.lstat()
            if status.st_uid != os.getuid() or status.st_mode & 0o077 or top.is_symlink():
                raise RaydpMLError(
                    f"{top} belongs to another user or is open to others; remove it or choose another folder"
                )
            folder = top
            for part in parts:
                folder = folder / part
                folder.mkdir(mode=0o700, exist_ok=True)
            return folder
        except FileNotFoundError:
            # The janitor of the application's last executor on this node has just removed the empty folder.
            continue


class ExecutorHost:
    """Starts one executor JVM as its child, watches it, and serves Ray blocks to it.

    Two processes keep the promise that nothing stays behind: ``child.py`` in front of the JVM, which ties it to the thread that
    started it, and ``janitor.py``, which removes the folders when this process ends.
    """

    def __init__(self, owner: ActorHandle) -> None:
        self._owner = owner
        # Here and not in start(): the actor is made while the driver JVM still starts, and these take a moment.
        self._spark = spark_home()
        self._java = find_java(self._spark.version)
        self._janitor = self._start_janitor()
        self._exited = threading.Event()
        self._code = 0

    def _prepare(self, launch: ExecutorLaunch) -> None:
        self._launch = launch
        self._work = private_folder(tempfile.gettempdir(), launch.app_id, launch.executor_id)
        self._staging = private_folder(self._staging_base(), launch.app_id, launch.executor_id, "staging")
        self._tell_janitor(f"dir {self._work}")
        self._tell_janitor(f"dir {self._staging.parent}")
        self._temporary = self._work / "tmp"
        self._temporary.mkdir()
        self._local_folders = self._make_local_folders()
        self._token = secrets.token_hex(16)
        self._server = BlockServer(self._work / "s", self._staging, self._token, self._owner)
        context = ray.get_runtime_context()
        logs = Path(context.get_temp_dir()) / context.get_session_name() / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self._log = logs / f"{launch.app_id}-executor-{launch.executor_id}.log"

    def _staging_base(self) -> str:
        chosen = os.environ.get("RAYDP_ML_STAGING_DIR") or self._launch.settings.get("spark.ray.staging.dir")
        if chosen:
            return chosen
        if os.path.isdir("/dev/shm") and shutil.disk_usage("/dev/shm").free >= _SMALLEST_SHM:
            return "/dev/shm"
        return tempfile.gettempdir()

    def _make_local_folders(self) -> list[str]:
        """Folders for shuffle and spill files: below each of spark.local.dir when it is set, so that we remove only our own."""
        configured = self._launch.settings.get("spark.local.dir")
        if not configured:
            folder = self._work / "local"
            folder.mkdir()
            return [str(folder)]
        folders = []
        for base in configured.split(","):
            folder = private_folder(base.strip(), self._launch.app_id, self._launch.executor_id)
            self._tell_janitor(f"dir {folder}")
            folders.append(str(folder))
        return folders

    def _start_janitor(self) -> subprocess.Popen[str]:
        script = Path(__file__).with_name("janitor.py")
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            cwd="/",
        )

    def _tell_janitor(self, line: str) -> None:
        pipe = self._janitor.stdin
        if pipe is None:
            raise RaydpMLError("the janitor has no pipe")
        pipe.write(line + "\n")
        pipe.flush()

    def start(self, launch: ExecutorLaunch) -> HostInfo:
        """Start the JVM.

        Parameters
        ----------
        launch : ExecutorLaunch
            What it needs.

        Returns
        -------
        HostInfo
            Node, address, process id and log file.
        """
        self._prepare(launch)
        started = threading.Event()
        problem: list[BaseException] = []

        def run() -> None:
            # This thread waits for the JVM: the parent-death signal fires when the thread that forked ends.
            try:
                with open(self._log, "wb") as log:
                    self._process = subprocess.Popen(
                        self._command(),
                        env=self._environment(),
                        cwd=self._work,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        stdin=subprocess.DEVNULL,
                    )
            except BaseException as error:
                problem.append(error)
                started.set()
                return
            self._tell_janitor(f"pid {self._process.pid}")
            started.set()
            self._code = self._process.wait()
            self._exited.set()

        threading.Thread(target=run, name="raydp-ml-executor", daemon=True).start()
        started.wait()
        if problem:
            raise RaydpMLError(f"the executor JVM could not be started: {problem[0]}") from problem[0]
        return HostInfo(
            ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address(), self._process.pid, str(self._log)
        )

    def _command(self) -> list[str]:
        launch, home = self._launch, self._spark
        # The driver's own file where this node has it, because a class archive fits one path only.
        jar = find_jar(launch.jar_name) or self._work / launch.jar_name
        if not jar.is_file():
            jar.write_bytes(launch.jar)
        extra = [launch.settings.get(key) for key in ("raydp.executor.extraClassPath", "spark.executor.extraClassPath")]
        conf = [str(home.path / "conf")] if (home.path / "conf").is_dir() else []
        # The order of bin/spark-class, which since Spark 4 names slf4j-api twice: a class archive fits one class path only.
        first = [str(path) for path in home.jars if path.name.startswith("slf4j-api-") and home.line >= "4"]
        class_path = [str(jar), *(entry for entry in extra if entry), *conf, *first, str(home.path / "jars" / "*")]
        return [
            sys.executable, "-I", "-S", str(Path(__file__).with_name("child.py")), str(os.getpid()),
            self._java, "-cp", os.pathsep.join(class_path), f"-Xmx{launch.heap_mib}m",
            # What the JVM leaves in its temporary folder goes with the executor, also after a SIGKILL.
            f"-Djava.io.tmpdir={self._temporary}", "-XX:-UsePerfData",
            *class_archive.java_options(home, jar), *launch.java_options,
            "org.apache.spark.executor.CoarseGrainedExecutorBackend",
            "--driver-url", launch.driver_url, "--executor-id", launch.executor_id,
            "--hostname", ray.util.get_node_ip_address(), "--cores", str(launch.cores),
            "--app-id", launch.app_id, "--resourceProfileId", str(launch.profile_id), *self._resources_file(),
        ]  # fmt: skip

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
        path = [entry for entry in sys.path if entry and os.path.exists(entry)]
        environment = dict(os.environ)
        environment.update(
            SPARK_HOME=str(self._spark.path),
            SPARK_LOCAL_DIRS=",".join(self._local_folders),
            PYSPARK_PYTHON=sys.executable,
            PYTHONPATH=os.pathsep.join(path),
            RAYDP_ML_STAGING=str(self._staging),
            RAYDP_ML_HOST_SOCKET=str(self._work / "s"),
            RAYDP_ML_HOST_TOKEN=self._token,
        )
        environment.update({k: v for k, v in launch.environment.items() if k != "PYTHONPATH"})
        if launch.secret is not None:
            environment["_SPARK_AUTH_SECRET"] = launch.secret
        # An executor is no driver of a Ray job, and numeric libraries in Python workers follow spark.executor.cores.
        environment.pop("RAY_JOB_ID", None)
        return environment

    def wait_exit(self) -> ExitReport:
        """Wait for the JVM's end.

        Returns
        -------
        ExitReport
            Exit code (negative: the signal) and the last lines of its log.
        """
        self._exited.wait()
        return ExitReport(self._code, self.log_tail())

    def log_tail(self) -> str:
        """The last lines of the executor's log."""
        with open(self._log, errors="replace") as log:
            return "".join(log.readlines()[-_LOG_TAIL_LINES:])

    def stop(self, grace: float = 3.0) -> None:
        """End the JVM: SIGTERM, and SIGKILL after ``grace`` seconds."""
        self._process.terminate()
        if not self._exited.wait(grace):
            self._process.kill()
            self._exited.wait()

    def read_staged(self, paths: list[str], vector_sizes: dict[str, int]) -> list:
        """Staged blocks as Arrow tables, for a task on another node; the files are removed."""
        from raydp_ml.exchange.blocks import take_file

        return [take_file(self._own(path), vector_sizes) for path in paths]

    def discard_staged(self, export_id: str) -> None:
        """Remove what a conversion that failed has staged here (PartitionWriter.scala puts its id in front)."""
        for path in self._staging.glob(f"{export_id}-*.arrow"):
            path.unlink(missing_ok=True)

    def _own(self, path: str) -> str:
        if Path(path).parent != self._staging:
            raise RaydpMLError(f"{path} is not in this host's staging folder")
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
