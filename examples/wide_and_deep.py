"""A wide-and-deep model over ids of which there are many: who clicks what.

    python examples/wide_and_deep.py

Spark hashes the names of users and items to 2**26 places, more than float32 can tell apart (it has no odd integers beyond 2**24),
and they reach the model as integers of 64 bits. A table of 2**26 rows would be wasteful, so each id is looked up in two small
tables, by its quotient and by its remainder, which together tell ids apart (Shi et al., "Compositional Embeddings Using
Complementary Partitions", 2020). The wide part has a weight for each row of these tables, the deep part embeddings and numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from raydp_ml import TorchEstimator, init_spark, stop_spark

if TYPE_CHECKING:
    import pyspark.sql

PLACES, SIDE = 2**26, 2**13


class Hashed(nn.Module):
    """Vectors of ids between 0 and PLACES, from two tables of SIDE rows.

    Parameters
    ----------
    width : int
        Numbers in a vector.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.high, self.low = nn.Embedding(SIDE, width), nn.Embedding(SIDE, width)
        nn.init.normal_(self.high.weight, std=0.1)
        nn.init.normal_(self.low.weight, std=0.1)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.high(ids // SIDE) + self.low(ids % SIDE)


class WideAndDeep(nn.Module):
    """A linear model of the ids beside a network of their embeddings and the numbers.

    Parameters
    ----------
    width : int
        Numbers in an embedding.
    """

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.wide = nn.ModuleList([Hashed(1), Hashed(1)])
        self.user, self.item = Hashed(width), Hashed(width)
        self.deep = nn.Sequential(nn.Linear(2 * width + 1, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, x: torch.Tensor, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        wide = self.wide[0](user) + self.wide[1](item)
        return wide + self.deep(torch.cat([self.user(user), self.item(item), x], dim=1))


def clicks(spark: pyspark.sql.SparkSession, rows: int = 40_000, users: int = 400, items: int = 60) -> Any:
    """Clicks in Spark: whether depends on the user, the item and the price."""
    return spark.sql(f"""
        WITH names AS (
            SELECT concat('user-', pmod(hash(id, 1), {users})) AS user_name,
                   concat('item-', pmod(hash(id, 2), {items})) AS item_name,
                   rand(3) AS price, randn(4) AS noise
            FROM range(0, {rows}, 1, 2))
        SELECT pmod(xxhash64(user_name), {PLACES}) AS user, pmod(xxhash64(item_name), {PLACES}) AS item, price,
               cast(pmod(hash(user_name), 5) + pmod(hash(item_name), 5) - 4 - 2 * price + noise > -1 AS int) AS click
        FROM names
    """)


def train(df: Any, **params: Any) -> TorchEstimator:
    """The model, fitted to clicks."""
    settings = {"lr": 0.02, "batch_size": 512, "num_epochs": 4, "random_state": 0, **params}
    model = TorchEstimator(
        WideAndDeep,
        loss="BCEWithLogitsLoss",
        feature_columns=["price", "user", "item"],
        feature_types={"user": torch.long, "item": torch.long},  # reach forward by their names, in their type
        label_column="click",
        validation=0.1,
        metrics=["roc_auc"],
        **settings,
    )
    return model.fit(df)


def main() -> None:
    """Train, and predict the first rows."""
    spark = init_spark("wide-and-deep", 1, 1, "512m")
    try:
        df = clicks(spark).cache()
        model = train(df)
        print(f"ROC AUC of the rows held out: {model.history_[-1]['valid_roc_auc']:.3f}")
        model.predict_proba(df).select("user", "item", "click", "probability").show(5)
    finally:
        stop_spark()


if __name__ == "__main__":
    main()
