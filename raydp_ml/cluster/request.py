"""What a session was asked for, and the settings of Spark that say the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup

__all__ = ["ARGUMENTS", "SessionRequest"]


@dataclass(frozen=True)
class SessionRequest:
    """What init_spark was asked for; two calls with the same request mean the same session."""

    app_name: str
    num_executors: int
    executor_cores: int
    executor_memory: int
    enable_hive: bool
    placement_group_strategy: str | None
    placement_group: PlacementGroup | None
    bundle_indexes: tuple[int, ...] | None
    configs: tuple[tuple[str, str], ...]

    def arguments(self) -> dict[str, str]:
        """Name and executors, as Spark's settings.

        Examples
        --------
        >>> request = SessionRequest("etl", 2, 1, 512 << 20, False, None, None, None, ())
        >>> request.arguments()["spark.executor.memory"]
        '512m'
        """
        return {
            "spark.app.name": self.app_name,
            "spark.executor.instances": str(self.num_executors),
            "spark.executor.cores": str(self.executor_cores),
            "spark.executor.memory": f"{max(1, self.executor_memory >> 20)}m",
        }


# What a call of init_spark says by itself: that Spark runs on Ray, and its arguments. spark-defaults.conf does not win over it.
ARGUMENTS = {
    "spark.master",
    "spark.submit.deployMode",
    "spark.app.name",
    "spark.executor.instances",
    "spark.executor.cores",
    "spark.executor.memory",
}
