"""Files on the nodes of Spark's executors, which share no disk with the driver's node unless the cluster has one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["read_files", "write_files"]


def read_files(actors: Sequence[Any], path: str) -> dict[str, bytes]:
    """Files below a local folder of the executors' nodes.

    Parameters
    ----------
    actors : sequence of ray.actor.ActorHandle
        The host actors of the executors, see :func:`raydp_ml.session.host_actors`.
    path : str
        The folder, the same path on each node.

    Returns
    -------
    dict of str to bytes
        Contents by path relative to the folder.

    Examples
    --------
    >>> from raydp_ml.cluster.executor_files import read_files
    >>> read_files([], "/tmp/stage")
    {}
    """
    if not actors:
        return {}
    import ray

    files: dict[str, bytes] = {}
    for tree in ray.get([actor.read_tree.remote(path) for actor in actors]):
        files.update(tree)
    return files


def write_files(actors: Sequence[Any], path: str, files: Mapping[str, bytes]) -> None:
    """Write files below a local folder of each node that has an executor.

    Parameters
    ----------
    actors : sequence of ray.actor.ActorHandle
        The host actors of the executors.
    path : str
        The folder, the same path on each node.
    files : mapping of str to bytes
        Contents by path relative to the folder.
    """
    if not actors:
        return
    import ray

    content = ray.put(dict(files))
    ray.get([actor.write_tree.remote(path, content) for actor in actors])
