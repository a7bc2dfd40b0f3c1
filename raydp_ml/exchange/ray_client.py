"""What a Ray Client (``ray.init("ray://...")``) cannot do, said at once: it holds no rows of the store and runs no Ray Data."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from raydp_ml.errors import InvalidValueError
from raydp_ml.exchange.ray_seam import is_client

if TYPE_CHECKING:
    import ray.data

__all__ = ["for_client", "require_cluster_driver"]

# Methods of a Dataset that read its rows here, or start what executes it.
_READING = (
    "aggregate", "iter_batches", "iter_internal_ref_bundles", "iter_rows", "iter_tf_batches", "iter_torch_batches",
    "iterator", "materialize", "max", "mean", "min", "show", "split", "split_at_indices", "split_proportionately", "std",
    "streaming_split", "sum", "take", "take_all", "take_batch", "to_arrow_refs", "to_numpy_refs", "to_pandas",
    "to_pandas_refs", "to_spark", "to_tf", "to_torch", "train_test_split", "unique", "write_csv", "write_json",
    "write_numpy", "write_parquet",
)  # fmt: skip


def require_cluster_driver(what: str) -> None:
    """Refuse in a Ray Client what needs a driver inside the cluster.

    Parameters
    ----------
    what : str
        What was asked for, for the error.

    Raises
    ------
    InvalidValueError
        In a process that is a Ray Client.

    Examples
    --------
    >>> require_cluster_driver("to_spark")
    """
    if is_client():
        raise InvalidValueError(
            f"{what} needs a driver inside the Ray cluster, and this process is a Ray Client (ray.init('ray://...')), which holds "
            "no part of the object store. Run the program as a Ray job (raydp-submit --deploy-mode cluster PROGRAM.py, or ray job "
            "submit), or this part of it in a Ray task or actor, which a Dataset may be passed to"
        )


def for_client(ds: ray.data.MaterializedDataset) -> ray.data.MaterializedDataset:
    """The Dataset with methods that refuse in a Ray Client what they could not do there.

    A Dataset is pickled without them (Ray's ``__getstate__`` names what it takes along), so tasks and actors can read it.

    Parameters
    ----------
    ds : ray.data.MaterializedDataset
        What was made in a Ray Client.
    """
    for name in _READING:
        if hasattr(ds, name):
            setattr(ds, name, _refusing(name))
    return ds


def _refusing(name: str) -> Callable[..., Any]:
    @wraps(for_client)
    def refuse(*args: Any, **kwargs: Any) -> Any:
        require_cluster_driver(f"Dataset.{name}")

    return refuse
