"""What went wrong on a worker, as an error of ours."""

from __future__ import annotations

import re

from raydp_ml.errors import RaydpMLError

__all__ = ["is_lost_worker", "training_error", "unwrapped"]

# What gloo, NCCL, xgboost and TensorFlow say when the process at the other end is gone.
_LOST_PEER = re.compile(
    r"gloo.*(connection|timed out)|connection (reset|closed|refused)|closed by peer|nccl|rabit|collective"
    r"|DistNetworkError|UnavailableError",
    re.IGNORECASE | re.DOTALL,
)


def unwrapped(failure: BaseException) -> BaseException:
    """A worker's error without Ray Train's wrapper."""
    return getattr(failure, "_base_exc", None) or failure


def is_lost_worker(failure: BaseException) -> bool:
    """Whether an error says that a worker died: of Ray about it, or of another worker that was talking to it."""
    from ray.exceptions import RayError

    if isinstance(failure, RayError) or type(failure).__name__ == "WorkerHealthCheckFailedError":
        return True
    return _LOST_PEER.search(f"{type(failure).__module__}.{type(failure).__name__}: {failure}") is not None


def training_error(cause: BaseException) -> RaydpMLError:
    """An error of a worker, as one of ours with the worker's own message."""
    if isinstance(cause, RaydpMLError):
        return cause
    return RaydpMLError(f"training failed on a worker: {type(cause).__name__}: {cause}")
