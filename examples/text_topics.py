"""Which team should a customer's message go to? A network over the words, counted and weighted in Spark, sparse all the way.

    python examples/text_topics.py

Spark splits the messages into words, counts them at 2**18 places (HashingTF) and weighs them by how rare they are (IDF). A row has
a few dozen numbers that are not zero, and as a dense row it would be a megabyte; so the rows cross to Ray as indices and values,
and ``feature_types=torch.sparse_csr`` gives them to the model as sparse tensors. Predictions are made in Spark, from the text.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from raydp_ml import SparkRayPipeline, TorchEstimator, init_spark, stop_spark
from raydp_ml.feature import IDF, HashingTF, Tokenizer

if TYPE_CHECKING:
    import pyspark.sql

PLACES = 2**18
# What messages say, by the team that they are for. Many words belong to no team alone.
SENTENCES = {
    "billing": [
        "i was charged twice for the {thing}",
        "the invoice of {day} shows a wrong amount for the {thing}",
        "please refund the money for my {thing}",
        "my card was declined although it has not expired",
        "the discount that you promised is not on the bill",
    ],
    "delivery": [
        "my {thing} has not arrived since {day}",
        "the courier left the {thing} at a wrong address",
        "tracking says that the parcel is still in the depot",
        "the box was open and the {thing} was damaged on the way",
        "can you send the {thing} to my office on {day}",
    ],
    "app": [
        "the app crashes when i open my orders",
        "i cannot log in since the update of {day}",
        "the password reset mail for my account never comes",
        "the search shows a {thing} that is sold out",
        "the page of the {thing} stays blank on my phone",
    ],
}
POLITE = [
    "hello",
    "good morning",
    "thank you",
    "best regards",
    "i have been a customer for years",
    "please answer soon",
]
THINGS = ["kettle", "lamp", "jacket", "keyboard", "tent", "bicycle", "blender", "backpack"]
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "last week", "yesterday"]


class Words(nn.Module):
    """A network whose first layer takes sparse rows: the mean of their words' vectors, weighted.

    Parameters
    ----------
    n_features, n_outputs : int
        Places of words, and classes.
    width : int
        Numbers in the vector of a word.
    """

    def __init__(self, n_features: int, n_outputs: int, width: int = 16) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(n_features, width) * 0.1)
        self.last = nn.Sequential(nn.ReLU(), nn.Linear(width, n_outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.sparse.mm(x, self.vectors))


def messages(rows: int = 3000, seed: int = 0) -> list[tuple[str, str]]:
    """Texts and the teams that they are for. Most sentences of a text are about its subject, and one may be about another."""
    rng = random.Random(seed)
    found = []
    for _ in range(rows):
        team = rng.choice(list(SENTENCES))
        parts = rng.sample(SENTENCES[team], 2) + rng.sample(POLITE, rng.randint(0, 2))
        if rng.random() < 0.5:
            parts.append(rng.choice(SENTENCES[rng.choice(list(SENTENCES))]))
        rng.shuffle(parts)
        text = " and ".join(parts).format(thing=rng.choice(THINGS), day=rng.choice(DAYS))
        words = [word for word in text.split() if rng.random() < 0.9]  # people leave words out
        found.append((" ".join(words), team))
    return found


def train(df: pyspark.sql.DataFrame, **params: Any) -> SparkRayPipeline:
    """The pipeline from text to team, fitted."""
    settings = {"lr": 0.02, "batch_size": 64, "num_epochs": 4, "random_state": 0, **params}
    model = TorchEstimator(
        Words,
        loss="CrossEntropyLoss",
        feature_types=torch.sparse_csr,  # forward is given sparse tensors
        label_column="team",
        validation=0.2,
        metrics=["accuracy"],
        **settings,
    )
    steps = [
        ("words", Tokenizer(inputCol="text", outputCol="words")),
        ("counts", HashingTF(inputCol="words", outputCol="counts", numFeatures=PLACES)),
        ("weights", IDF(inputCol="counts", outputCol="features")),
        ("model", model),
    ]
    return SparkRayPipeline(steps).fit(df)


def main() -> None:
    """Train, and ask where two new messages should go."""
    spark = init_spark("text-topics", 1, 1, "512m")
    try:
        pipe = train(spark.createDataFrame(messages(), ["text", "team"]))
        history = pipe.steps_[-1][1].history_
        print(f"Accuracy on the messages held out: {history[-1]['valid_accuracy']:.3f}")
        new = [("hello where is my parcel it has not arrived",), ("the app stays blank after the update",)]
        pipe.predict(spark.createDataFrame(new, ["text"])).select("text", "prediction").show(truncate=False)
    finally:
        stop_spark()


if __name__ == "__main__":
    main()
