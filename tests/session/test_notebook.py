"""A session in Jupyter's kernel: what a cell shows, an interrupted cell, and that restart and end of the kernel leave nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from ray.util import placement_group_table

from tests.waiting import until

pytestmark = pytest.mark.slow

START = """
import json, time, ray, raydp_ml
from raydp_ml import session
ray.init({address!r}, log_to_driver=False, logging_level="ERROR")
# Reservations that last, so that there are placement groups to leave.
spark = raydp_ml.init_spark("kernel", 1, 1, "512m", configs={{"spark.ui.enabled": "false", "spark.ray.executor.lendAfter": "1h"}})
dataset = raydp_ml.from_spark(spark.range(0, 200000, 1, 2))
info = raydp_ml.spark_info()
pids = [e["pid"] for e in info["executors"].values()] + [session._session.gateway.proc.pid]
print("TOLD " + json.dumps({{"app": info["app_id"], "pids": pids}}))
info
"""
LONG = """
def wait(_):
    open({mark!r}, "w").close()
    time.sleep(600)
spark.sparkContext.parallelize([1], 1).foreach(wait)
"""


@pytest.fixture
def kernel(ray_cluster: None, tmp_path: Path) -> Iterator[KernelManager]:
    manager = KernelManager()
    # Its own folder, and no start-up files of this machine's user.
    manager.start_kernel(cwd=str(tmp_path), env=os.environ | {"IPYTHONDIR": str(tmp_path / "ipython")})
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.fixture
def client(kernel: KernelManager) -> Iterator[BlockingKernelClient]:
    client = kernel.client()
    client.start_channels()
    client.wait_for_ready(timeout=120)
    yield client
    client.stop_channels()


def run(client: BlockingKernelClient, code: str) -> tuple[str, dict[str, Any]]:
    """What a cell prints, and what it shows by type."""
    printed: list[str] = []
    shown: dict[str, Any] = {}

    def take(message: dict[str, Any]) -> None:
        content = message["content"]
        if message["msg_type"] == "stream":
            printed.append(content["text"])
        elif message["msg_type"] == "execute_result":
            shown.update(content["data"])

    reply = client.execute_interactive(code, timeout=240, output_hook=take)["content"]
    assert reply["status"] == "ok", "\n".join(reply.get("traceback", [])) + "".join(printed)
    return "".join(printed), shown


def start(client: BlockingKernelClient) -> tuple[dict[str, Any], str]:
    printed, shown = run(client, START.format(address=ray.get_runtime_context().gcs_address))
    (line,) = [line for line in printed.splitlines() if line.startswith("TOLD ")]
    told = json.loads(line.removeprefix("TOLD "))
    assert all(Path(f"/proc/{pid}").exists() for pid in told["pids"])
    assert left(told)
    return told, shown["text/html"]


def left(told: dict[str, Any]) -> list[object]:
    """Processes, files, actors, placement groups and CPUs of a session that are still there."""
    bases = ("/dev/shm", os.environ.get("TMPDIR", "/tmp"))
    found: list[object] = [pid for pid in told["pids"] if Path(f"/proc/{pid}").exists()]
    found += [path for base in bases for path in Path(base).glob(told["app"])]
    found += [actor for actor in ray.util.list_named_actors(all_namespaces=True) if "kernel" in actor["name"]]
    found += [group for group in placement_group_table().values() if group["state"] != "REMOVED"]
    return found + ([] if ray.available_resources().get("CPU", 0) == 4 else ["CPUs are held"])


def test_a_kernel_is_interrupted_restarted_and_ended(
    kernel: KernelManager, client: BlockingKernelClient, tmp_path: Path
) -> None:
    told, page = start(client)
    assert "<table>" in page and told["app"] in page

    mark = tmp_path / "runs"
    request = client.execute(LONG.format(mark=str(mark)))
    until(mark.exists, 60, "the job has not begun")
    kernel.interrupt_kernel()
    reply = client.get_shell_msg(timeout=20)
    assert reply["parent_header"]["msg_id"] == request
    assert (reply["content"]["status"], reply["content"]["ename"]) == ("error", "KeyboardInterrupt")
    assert run(client, "spark.range(10).count()")[1]["text/plain"] == "10"

    # As Jupyter does with a kernel that does not answer: SIGKILL.
    kernel.restart_kernel(now=True)
    client.wait_for_ready(timeout=120)
    until(lambda: not left(told), 20, lambda: left(told))

    # The same cell again, and the end that Jupyter asks for.
    again, _ = start(client)
    assert again["app"] != told["app"]
    kernel.shutdown_kernel(now=False)
    until(lambda: not left(again), 20, lambda: left(again))
