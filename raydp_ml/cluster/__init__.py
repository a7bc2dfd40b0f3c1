"""Spark on Ray: each executor JVM is the child of one Ray actor, and a master in the driver keeps their number right."""
