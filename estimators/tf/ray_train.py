"""Ray Train's part in a TensorFlow fit: every worker learns the addresses of all.

Ray's own TensorFlow backend would do, but it imports TensorFlow in the driver and switches ``tf.keras`` to Keras 2 in
the workers.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import ray
from ray.train._internal.utils import get_address_and_port
from ray.train.backend import Backend, BackendConfig

__all__ = ["AddressBook"]


@dataclass
class AddressBook(BackendConfig):
    """Sets ``TF_CONFIG``, from which TensorFlow's collective runtime reads who is there, in each worker."""

    @property
    def backend_cls(self) -> type[Backend]:
        """What Ray Train runs when the workers are up."""
        return _AddressBackend


class _AddressBackend(Backend):
    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        addresses = worker_group.execute(_address)
        ray.get(
            [worker_group.execute_single_async(rank, _set_config, addresses, rank) for rank in range(len(addresses))]
        )


def _address() -> str:
    host, port = get_address_and_port()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _set_config(addresses: list[str], rank: int) -> None:
    os.environ["TF_CONFIG"] = json.dumps(
        {
            "cluster": {"worker": addresses},
            "task": {"type": "worker", "index": rank},
        }
    )
