"""What went wrong on a worker, as an error of ours."""

from __future__ import annotations

import re
import sysconfig
import traceback
from pathlib import Path

from raydp_ml.errors import RaydpMLError, how_to_ship

__all__ = ["is_lost_worker", "training_error", "unwrapped"]

_OURS = Path(__file__).parents[1]
_PYTHONS = sysconfig.get_path("stdlib")
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
    """An error of a worker, as one of ours with the worker's own message, and where in the user's code it was raised."""
    if isinstance(cause, RaydpMLError):
        return cause
    frames = [frame for frame in traceback.extract_tb(cause.__traceback__) if not _is_installed(frame.filename)]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno}, in {frames[-1].name})" if frames else ""
    shipping = f". {how_to_ship(cause)}" if isinstance(cause, ModuleNotFoundError) else ""
    return RaydpMLError(f"training failed on a worker: {type(cause).__name__}: {cause}{where}{shipping}")


def _is_installed(file: str) -> bool:
    """Whether a file belongs to this package, to an installed one or to Python."""
    path = Path(file)
    return {"site-packages", "dist-packages"} & set(path.parts) != set() or any(
        path.is_relative_to(folder) for folder in (_OURS, _PYTHONS)
    )
