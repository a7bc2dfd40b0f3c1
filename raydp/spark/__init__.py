"""Adapters with the names that Ray Data and RayDP programs import from raydp.spark."""
