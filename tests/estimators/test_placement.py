"""What workers are asked for: GPUs."""

from __future__ import annotations

import pytest
import torch
from ray.train import ScalingConfig

from raydp_ml import InvalidValueError, TorchEstimator, XGBEstimator
from raydp_ml.estimators.launch import Placement
from raydp_ml.estimators.torch import TrainingLoop


@pytest.mark.parametrize("own_config", [False, True])
def test_a_worker_of_several_gpus_is_as_many_workers(own_config: bool) -> None:
    asked = {"CPU": 3, "GPU": 2, "memory": 1001}
    if own_config:
        asked_for = Placement(
            2, use_gpu=True, scaling_config=ScalingConfig(num_workers=2, use_gpu=True, resources_per_worker=asked)
        )
        found = asked_for.with_one_gpu_each()
        resources, workers = found.scaling_config.resources_per_worker, found.scaling_config.num_workers
    else:
        found = Placement(2, use_gpu=True, resources_per_worker=asked).with_one_gpu_each()
        resources, workers = found.resources_per_worker, found.workers
    assert found.workers == workers == 4
    assert resources == {"CPU": 1.5, "GPU": 1.0, "memory": 500}
    assert asked == {"CPU": 3, "GPU": 2, "memory": 1001}


@pytest.mark.parametrize("gpus", [0, 0.5, 1])
def test_a_gpu_or_a_part_of_one_stays_with_its_worker(gpus: float) -> None:
    asked = Placement(2, use_gpu=bool(gpus), resources_per_worker={"GPU": gpus})
    assert asked.with_one_gpu_each() is asked
    nowhere = Placement(0, use_gpu=True, resources_per_worker={"GPU": 4})
    assert nowhere.with_one_gpu_each() is nowhere


def test_parts_of_several_gpus_are_refused_before_rows_are_read() -> None:
    settings = {"num_workers": 1, "use_gpu": True, "resources_per_worker": {"GPU": 1.5}}
    for estimator in (
        TorchEstimator(torch.nn.Linear(1, 1), loss="mse", **settings),
        XGBEstimator(task="regression", **settings),
    ):
        with pytest.raises(InvalidValueError, match=r"resources_per_worker has 1\.5 GPUs; above 1 it must be a whole"):
            estimator.fit([[0.0], [1.0]], [0.0, 1.0])


class Counted(TrainingLoop):
    """Says how many workers train."""

    def run_epoch(self) -> dict[str, float]:
        return {**super().run_epoch(), "workers": self.job.world_size, "on_gpu": self.device.type == "cuda"}


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="this machine has no two GPUs")
def test_both_gpus_of_a_worker_train(ray_cluster: None) -> None:
    X = torch.linspace(-1, 1, 64)[:, None].numpy()
    settings = {"loss": "mse", "lr": 0.1, "num_epochs": 20, "random_state": 0, "verbose": False, "use_gpu": True}
    model = torch.nn.Linear(1, 1)
    two = TorchEstimator(model, num_workers=1, resources_per_worker={"GPU": 2}, loop=Counted, **settings)
    two.fit(X, 2 * X[:, 0])
    assert two.history_[-1]["workers"] == 2 and two.history_[-1]["on_gpu"]
    one = TorchEstimator(model, **settings).fit(X, 2 * X[:, 0])
    assert two.score(X, 2 * X[:, 0]) == pytest.approx(one.score(X, 2 * X[:, 0]), abs=0.05)
