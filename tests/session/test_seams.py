"""The private parts of PySpark that a session uses: this fails clearly when one of them moves."""

from __future__ import annotations

import inspect

from tests.waiting import until, until_free


def test_pyspark_keeps_what_spark_seam_uses() -> None:
    from pyspark import SparkContext
    from pyspark.java_gateway import launch_gateway
    from pyspark.sql import SparkSession

    for name in ("_gateway", "_jvm", "_active_spark_context"):
        assert hasattr(SparkContext, name), f"SparkContext.{name} moved: see raydp_ml/cluster/spark_seam.py"
    assert hasattr(SparkSession, "_instantiatedSession"), "SparkSession._instantiatedSession moved: see spark_seam.py"
    source = inspect.getsource(launch_gateway)
    for name in ("PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET", "_PYSPARK_DRIVER_CONN_INFO_PATH", "gateway.proc"):
        assert name in source, f"{name} is gone from PySpark's launch_gateway: see raydp_ml/cluster/spark_seam.py"


def test_ray_keeps_what_a_forked_process_lets_go_of(ray_cluster: None) -> None:
    import ray
    from ray._private import worker
    from ray._private.state import state

    moved = "moved: see raydp_ml/cluster/forks.py"
    assert callable(worker.shutdown), f"Ray's exit handler {moved}"
    assert isinstance(worker._global_node.all_processes, dict), f"what Ray ends at exit {moved}"
    assert worker.global_worker.mode == worker.SCRIPT_MODE, f"what a driver of Ray is {moved}"
    assert worker.global_worker.listener_thread.is_alive(), f"the thread that each driver of Ray has {moved}"
    assert ray.nodes()  # Through that client, which is made when it is first used.
    assert type(state._global_state_accessor).__name__ == "GlobalStateAccessor", f"Ray's client of its state {moved}"
    assert worker.global_worker.connected and callable(worker.global_worker.set_mode), f"Ray's connection {moved}"


def test_spark_writes_errors_of_workers_where_the_daemon_stands_in() -> None:
    import pyspark
    import pyspark.util
    import pyspark.worker

    if pyspark.__version__ >= "4":
        said = "pyspark.util.handle_worker_exception moved: see raydp_ml/cluster/python_daemon.py"
        assert next(iter(inspect.signature(pyspark.util.handle_worker_exception).parameters)) == "e", said
        assert "handle_worker_exception(" in inspect.getsource(pyspark.worker), said


def test_ray_tells_which_nodes_drain(ray_cluster: None) -> None:
    from raydp_ml.cluster.nodes import alive_nodes, draining_nodes

    assert len(alive_nodes()) == 1
    assert draining_nodes() == set(), "Ray's get_draining_nodes moved: see raydp_ml/cluster/nodes.py"


def test_ray_tells_that_no_autoscaler_runs(ray_cluster: None) -> None:
    from ray.experimental.internal_kv import _internal_kv_get

    from raydp_ml.cluster.nodes import autoscaler

    until(lambda: _internal_kv_get("__autoscaling_status"), 30, "Ray's monitor moved: see raydp_ml/cluster/nodes.py")
    assert autoscaler() is None


def test_ray_tells_free_cpus_and_who_waits_for_some(ray_cluster: None) -> None:
    import ray
    from ray.util import placement_group, remove_placement_group

    from raydp_ml.cluster.nodes import cpu_state

    node = ray.get_runtime_context().get_node_id()
    until_free(4)
    assert cpu_state().free == {node: 4.0} and list(cpu_state().awaited) == []
    holder = placement_group([{"CPU": 3.0}], bundle_label_selector=[{"ray.io/node-id": node}])
    groups = [holder, placement_group([{"CPU": 2.0}]), placement_group([{"CPU": 99.0}])]
    try:
        assert holder.wait(10), "Ray's label of a node moved: see raydp_ml/cluster/groups.py"
        until(lambda: cpu_state().free == {node: 1.0}, 10, cpu_state)
        until(lambda: list(cpu_state().awaited) == [2.0], 10, cpu_state)
        assert list(cpu_state(ours=[{"CPU": 2.0}]).awaited) == []
    finally:
        for group in groups:
            remove_placement_group(group)
    until_free(4)


def test_ray_names_a_node_by_its_address(ray_cluster: None) -> None:
    import ray

    from raydp_ml.cluster.nodes import node_label

    assert ray.available_resources()[node_label(ray.get_runtime_context().get_node_id())] <= 1
