"""Names that RayDP's programs import: how the actor of a session is found, and settings."""

from raydp_ml.cluster.owners import NAME_SUFFIX

__all__ = [
    "RAYDP_APPMASTER_EXTRA_JAVA_OPTIONS",
    "RAYDP_EXECUTOR_EXTRA_CLASSPATH",
    "RAYDP_SPARK_MASTER_SUFFIX",
    "RAY_LOG4J_CONFIG_FILE_NAME",
    "RAY_PREFER_CLASSPATH",
    "SPARK_LOG4J_CONFIG_FILE_NAME",
    "SPARK_PREFER_CLASSPATH",
    "SPARK_RAY_LOG4J_FACTORY_CLASS_KEY",
]

# ray.get_actor(app_name + RAYDP_SPARK_MASTER_SUFFIX) gives the actor that owns the session's blocks.
RAYDP_SPARK_MASTER_SUFFIX = NAME_SUFFIX

# Settings; docs/spark_on_ray.md says what each of them does.
RAYDP_APPMASTER_EXTRA_JAVA_OPTIONS = "spark.ray.raydp_app_master.extraJavaOptions"
RAYDP_EXECUTOR_EXTRA_CLASSPATH = "raydp.executor.extraClassPath"
SPARK_PREFER_CLASSPATH = "spark.preferClassPath"
RAY_PREFER_CLASSPATH = "spark.ray.preferClassPath"
SPARK_LOG4J_CONFIG_FILE_NAME = "spark.log4j.config.file.name"
RAY_LOG4J_CONFIG_FILE_NAME = "spark.ray.log4j.config.file.name"
SPARK_RAY_LOG4J_FACTORY_CLASS_KEY = "spark.ray.log4j.factory.class"
