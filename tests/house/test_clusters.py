"""The files for clusters, which no test can start: they follow the schema, fit together, and name the versions that are pinned."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from raydp_ml.cli.options import parse

ROOT = Path(__file__).parents[2]
CLUSTERS = ROOT / "examples" / "clusters"
RAY = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE).group(1)


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((CLUSTERS / name).read_text())


def groups(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def cluster_spec(name: str) -> dict[str, Any]:
    resource = load(name)
    assert resource["apiVersion"] == "ray.io/v1"
    return resource["spec"] if resource["kind"] == "RayCluster" else resource["spec"]["rayClusterSpec"]


def test_the_launchers_file_follows_rays_schema() -> None:
    config = load("launcher.yaml")
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(config, schema)
    assert config["head_node_type"] in config["available_node_types"]
    assert sum(kind.get("max_workers", 0) for kind in config["available_node_types"].values()) <= config["max_workers"]


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_kuberays_files_are_whole(name: str) -> None:
    spec = cluster_spec(name)
    assert spec["rayVersion"] == RAY
    assert len(spec["workerGroupSpecs"]) >= 1
    for group in groups(spec):
        # Values of `ray start` are strings, or Kubernetes refuses the file.
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        for container in pod["containers"]:
            assert container["image"] == "raydp-ml:latest"
            # KubeRay tells Ray of a pod what its limits are.
            assert container["resources"]["limits"] == container["resources"]["requests"]
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        mounts = group["template"]["spec"]["containers"][0]["volumeMounts"]
        assert "/dev/shm" in [mount["mountPath"] for mount in mounts]


def test_custom_resources_of_workers_are_json_after_the_shell() -> None:
    (workers,) = load("raycluster.yaml")["spec"]["workerGroupSpecs"]
    inner = workers["rayStartParams"]["resources"]
    assert json.loads(json.loads(inner)) == {"spark": 100}


def test_the_job_of_kuberay_is_a_command_line_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.isfile", lambda path: path == "/programs/etl.py")
    program, *arguments = load("rayjob.yaml")["spec"]["entrypoint"].split()
    assert program == "raydp-submit"
    submission = parse(arguments)
    assert submission.settings["spark.executor.instances"] == "4"
    assert submission.arguments == ("2026-11-01",)


def test_the_image_is_of_the_pinned_ray_and_has_what_executors_need() -> None:
    lines = (CLUSTERS / "Dockerfile").read_text()
    assert re.search(r"^FROM rayproject/ray:(.+)-py311$", lines, flags=re.MULTILINE).group(1) == RAY
    assert "openjdk-17-jre-headless" in lines and "python -m raydp_ml.build_jar" in lines
