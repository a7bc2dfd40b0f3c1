"""The name under which RayDP's programs find the actor of a session."""

from raydp_ml.cluster.owners import NAME_SUFFIX

__all__ = ["RAYDP_SPARK_MASTER_SUFFIX"]

# ray.get_actor(app_name + RAYDP_SPARK_MASTER_SUFFIX) gives the actor that owns the session's blocks.
RAYDP_SPARK_MASTER_SUFFIX = NAME_SUFFIX
