"""The people of tests/people.py and their Spark session, as fixtures of this folder."""

from tests.people import make_steps, people, people_df, spark

__all__ = ["make_steps", "people", "people_df", "spark"]
