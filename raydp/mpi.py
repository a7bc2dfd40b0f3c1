"""RayDP runs MPI programs with this module; raydp_ml does not, and says what does the same."""

from typing import Any, NoReturn

_NAMES = ("MPIJobContext", "MPIType", "create_mpi_job")

__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        _refuse(name)
    raise AttributeError(f"module 'raydp.mpi' has no attribute {name!r}")


def _refuse(name: str) -> NoReturn:
    from raydp_ml.errors import MissingDependencyError

    raise MissingDependencyError(
        f"raydp.mpi.{name} is not part of raydp-ml. For distributed training use TorchEstimator, TFEstimator or XGBEstimator, "
        "whose workers talk over NCCL, Gloo or the library's own collectives, or ray.train.torch.TorchTrainer with a loop of your "
        "own; for functions that run on several nodes at the same time, Ray tasks in a placement group; for a program that needs "
        "MPI itself, mpirun with the addresses of ray.nodes()"
    )
