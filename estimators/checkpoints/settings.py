"""Whether a fit keeps checkpoints, where and how many, as the parameters of its estimator say it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raydp_ml.errors import InvalidTypeError, InvalidValueError
from raydp_ml.estimators.checkpoints.description import describe_parameters
from raydp_ml.estimators.checkpoints.folder import Checkpoints
from raydp_ml.estimators.checkpoints.keeping import Keeping
from raydp_ml.persistence.filesystems import filesystem_of

__all__ = ["CheckpointSettings", "checkpoint_settings"]

_FOLDER = "raydp_ml_checkpoints"


@dataclass(frozen=True)
class CheckpointSettings:
    """What is known of a fit's checkpoints before its rows are; ``described`` is what must be the same for a fit to go on."""

    checkpoints: Checkpoints
    described: Mapping[str, str]
    resume: bool

    def begin(self, rows: Mapping[str, str]) -> Checkpoints:
        """The checkpoints of the fit on these rows.

        Parameters
        ----------
        rows : mapping of str to str
            A description of the rows.
        """
        return self.checkpoints.begin({**self.described, **rows}, resume=self.resume)


def checkpoint_settings(
    owner: str, params: Mapping[str, Any], *, every: int, seed: int | None, resume: bool
) -> CheckpointSettings | None:
    """Read the parameters that concern checkpoints.

    Parameters
    ----------
    owner : str
        The class of the estimator.
    params : mapping of str to object
        As ``get_params(deep=False)`` gives them.
    every : int
        After how many epochs there is a checkpoint where ``checkpoint_every`` is None.
    seed : int or None
        What ``random_state`` is for this fit.
    resume : bool
        Whether to go on from checkpoints.

    Returns
    -------
    CheckpointSettings or None
        None for a fit that keeps no checkpoints.

    Raises
    ------
    InvalidValueError
        When there is no place to keep them, though they are asked for.
    """
    storage_path, run_config, asked = (params[name] for name in ("storage_path", "run_config", "checkpoint_every"))
    if storage_path is None and run_config is None:
        if resume:
            raise InvalidValueError(
                "resume=True needs storage_path: the folder with the checkpoints of the fit to go on with"
            )
        if asked:
            raise InvalidValueError(f"checkpoint_every={asked} needs storage_path: where the checkpoints are written")
        return None
    if asked == 0:
        if resume:
            raise InvalidValueError(
                "resume=True goes on from checkpoints, and checkpoint_every=0 keeps none; give a number"
            )
        return None
    keeping = _keeping(every if asked is None else int(asked), run_config)
    filesystem, folder = _place(storage_path, run_config)
    described = {"estimator": owner, **describe_parameters(params), "random_state": str(seed)}
    return CheckpointSettings(Checkpoints(filesystem, folder, keeping), described, resume)


def _keeping(every: int, run_config: Any) -> Keeping:
    if run_config is None or run_config.checkpoint_config is None:
        return Keeping(every)
    config = run_config.checkpoint_config
    return Keeping(
        every,
        config.num_to_keep,  # None keeps all of them, as Ray Train does
        config.checkpoint_score_attribute,
        config.checkpoint_score_order == "max",
    )


def _place(storage_path: Any, run_config: Any) -> tuple[Any, str]:
    """The file system, and the folder there: beside what Ray Train writes of a run that has a name."""
    if storage_path is not None and not isinstance(storage_path, str | os.PathLike):
        raise InvalidTypeError(f"storage_path={storage_path!r} must be a path, or a URI that pyarrow.fs understands")
    parts: list[str] = []
    if run_config is not None:
        storage_path = run_config.storage_path if storage_path is None else storage_path
        parts = [run_config.name] if run_config.name else []
    if run_config is not None and run_config.storage_filesystem is not None:
        filesystem, root = run_config.storage_filesystem, os.fspath(storage_path)
    else:
        filesystem, root = filesystem_of(storage_path, "storage_path")
    return filesystem, "/".join([root.rstrip("/"), *parts, _FOLDER])
