"""init_spark and stop_spark: one Spark application inside the Ray cluster, for this process."""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from raydp_ml import progress
from raydp_ml.application import Application
from raydp_ml.cluster.request import SessionRequest
from raydp_ml.errors import InvalidTypeError, InvalidValueError, RaydpMLError, SessionStoppedError
from raydp_ml.submitted import Submitted

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from ray.util.placement_group import PlacementGroup

    from raydp_ml.cluster.information import SparkInfo

_STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")

_lock = threading.RLock()
_session: Application | None = None
# The arguments that the session was started with.
_request: SessionRequest | None = None
# What raydp-submit has started for the program that runs in this process.
_submitted: Submitted | None = None
# What begins and ends with every session.
_beginnings: list[Callable[[], None]] = []
_companions: list[Callable[[], None]] = []


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
    verbose: bool = True,
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
    verbose : bool, default True
        Say on the standard error stream what is waited for, when the start takes long.
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
    _require_linux()
    request = check_request(
        app_name, num_executors, executor_cores, executor_memory, enable_hive, (fault_tolerance_mode, fault_tolerant_mode),
        placement_group_strategy, placement_group, placement_group_bundle_indexes, configs,
    )  # fmt: skip
    with _lock, progress.call("init_spark", verbose):
        return _session_for(request)


def _session_for(request: SessionRequest) -> SparkSession:
    global _session, _request
    if _session is not None:
        if _session.alive():
            if _request == request and _session.spark is not None:
                return _session.spark
            raise InvalidValueError(
                f"a session named {_session.request.app_name!r} runs with other arguments; call stop_spark() before init_spark"
            )
        _session.end(cleanup_data=True)
        _session = None
    made = _submitted.session() if _submitted is not None else None
    if made is not None:
        return made
    _refuse_foreign_context()
    _stop_at_exit()
    if _submitted is not None:
        session = _submitted.start(request)
    else:
        session = Application(request)
        try:
            session.start()
        except BaseException:
            session.end(cleanup_data=True)
            raise
    if session.spark is None:
        raise SessionStoppedError("the session ended while it started")
    _session, _request = session, request
    for begin in _beginnings:
        begin()
    return session.spark


def submit(request: SessionRequest, address: str | None) -> None:
    """Start what a program needs that ``raydp-submit`` runs in this process; :func:`stop_spark` ends it.

    Parameters
    ----------
    request : SessionRequest
        What was submitted.
    address : str, optional
        The Ray cluster; None: that of RAY_ADDRESS, or a new one on this machine.
    """
    global _submitted
    _require_linux()
    with _lock:
        _stop_at_exit()
        _submitted = Submitted(request, address)


def _require_linux() -> None:
    if not sys.platform.startswith("linux"):
        raise RaydpMLError(f"Spark on Ray runs on Linux; this is {sys.platform}")


def _running() -> Application | None:
    """The session of this process, if it runs: that of init_spark, or one that a submitted program has made."""
    session = _session
    if session is None and _submitted is not None:
        made = _submitted.session()
        if made is None or _submitted.application.adopt(made) is None:
            return None
        session = _submitted.application
    return session if session is not None and session.alive() else None


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
        running = [_session] if _session is not None else []
        if _submitted is not None and _submitted.application is not _session:
            running.append(_submitted.application)
        _session = None
        for session in running:
            session.end(cleanup_data)
        if running:
            for end in _companions:
                end()


def begin_with_session(begin: Callable[[], None]) -> None:
    """Have something started whenever init_spark has started a session: what the first fit would wait for.

    Parameters
    ----------
    begin : callable
        Called with no arguments when the session is there; it must not wait.

    Examples
    --------
    >>> from raydp_ml.session import begin_with_session
    >>> begin_with_session(lambda: None)
    """
    _beginnings.append(begin)


def end_with_session(end: Callable[[], None]) -> None:
    """Have something ended whenever a session ends: what a fit keeps beside Spark for the next one.

    Parameters
    ----------
    end : callable
        Called with no arguments after each session's end; it may find nothing to do.

    Examples
    --------
    >>> from raydp_ml.session import end_with_session
    >>> end_with_session(lambda: None)
    """
    _companions.append(end)


def spark_info() -> SparkInfo:
    """What runs: the application, where its UI is, and its executors with node, state, cores, memory, tasks and log file.

    Returns
    -------
    SparkInfo
        A dict, which shows itself as a table, also in notebooks; empty when there is no session.

    Examples
    --------
    >>> import raydp_ml
    >>> raydp_ml.spark_info()
    no Spark session of raydp_ml runs in this process
    """
    from raydp_ml.cluster import spark_seam
    from raydp_ml.cluster.information import SparkInfo

    session = _running()
    if session is None or session.master is None or session.spark is None:
        return SparkInfo({})
    context = session.spark.sparkContext
    lending, tasks = session.master.lending(), spark_seam.executor_tasks(context)
    executors = {
        executor_id: vars(info)
        | {"lends_cpus": lending.get(executor_id, False), "state": "running" if executor_id in tasks else "starting"}
        | (vars(tasks[executor_id]) if executor_id in tasks else {})
        for executor_id, info in session.master.executors().items()
    }
    return SparkInfo(
        {
            "app_id": session.app_id,
            "app_name": context.appName,
            "spark_version": context.version,
            "ui": context.uiWebUrl,
            "executors": executors,
        }
    )


def host_actors() -> list[Any]:
    """The Ray actors that host this session's executors; none when no session of ours runs.

    Examples
    --------
    >>> from raydp_ml.session import host_actors
    >>> host_actors()
    []
    """
    session = _running()
    if session is None or session.master is None:
        return []
    return list(session.master.host_actors())


def warm_predictions(modules: tuple[str, ...]) -> bool:
    """Have executors' nodes import what a model needs to predict, so that the first prediction does not; does not wait for it.

    Parameters
    ----------
    modules : tuple of str
        What to import.

    Returns
    -------
    bool
        Whether a session of ours runs in this process.

    Examples
    --------
    >>> from raydp_ml.session import warm_predictions
    >>> warm_predictions(("xgboost",))
    False
    """
    from raydp_ml.cluster import prediction_zygote

    session = _session
    if session is None or not session.alive() or session.master is None:
        return False
    prediction_zygote.warm(session.master.hosts_by_node(), modules)
    return True


def check_request(
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
    """The request of :func:`init_spark`'s arguments, or an error that names the one that is wrong."""
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
            f"a SparkContext with master {context.master!r} already runs in this process, which can have one. raydp_ml.from_spark "
            "makes Ray Datasets of its frames as it is; for a session on Ray save what you need, stop it with spark.stop(), and "
            "call init_spark again"
        )


@cache
def _stop_at_exit() -> None:
    """Once, and after Ray was imported: exit handlers run last in, first out, and Spark has to go before Ray does."""
    import ray  # noqa: F401

    atexit.register(stop_spark)
