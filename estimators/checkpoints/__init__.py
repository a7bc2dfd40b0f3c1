"""Checkpoints: what a training has reached, written down every few epochs, so that it goes on from there and not from the start.

A fit with ``storage_path`` has a folder there. ``fit.json`` says which fit it belongs to (see
:mod:`raydp_ml.estimators.checkpoints.description`); beside it lies one file of each worker for each checkpoint. A worker that is
started again reads the last one that is whole, as does ``fit(..., resume=True)`` in a new process. The backends say what the
state of a training is, in ``reporter.report(metrics, state)``, and find what to go on from in ``job.checkpoint``
(:mod:`raydp_ml.estimators.protocol`); where fits run makes no difference.
"""

from raydp_ml.estimators.checkpoints.folder import Checkpoints, WorkerCheckpoints
from raydp_ml.estimators.checkpoints.settings import CheckpointSettings, checkpoint_settings

__all__ = ["CheckpointSettings", "Checkpoints", "WorkerCheckpoints", "checkpoint_settings"]
