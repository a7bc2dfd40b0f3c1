"""The Scala sources of the jar that raydp_ml puts on Spark's class path; compiled by ``raydp_ml.cluster.jar``."""
