"""TorchEstimator on a Spark frame beside a loop of plain PyTorch on a ready matrix; run by benchmarks/training.py."""

import sys
import time

import torch
from answering import serve
from training import FEATURES, Fits, identity_seconds, seconds_of

from raydp_ml.estimators.torch import TrainingLoop

BATCH, RATE = 1024, 1e-3


def network():
    return torch.nn.Sequential(
        torch.nn.Linear(FEATURES, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1)
    )


class Timed(TrainingLoop):
    """Notes how long each epoch takes."""

    def run_epoch(self):
        began = time.perf_counter()
        metrics = super().run_epoch()
        return {**metrics, "epoch_seconds": time.perf_counter() - began}


class Torch(Fits):
    """Fits of a small network, and the same training without us."""

    def begin(self, rows):
        """Start Spark on Ray and have the rows in its cache; and here, as tensors."""
        torch.set_num_threads(1)
        answer = super().begin(rows)
        self._X = self._local[[f"x{n}" for n in range(FEATURES)]].to_numpy()
        self._y = self._local["y"].to_numpy().astype("float32")
        return answer

    def _net(self, epochs, workers=1):
        import raydp_ml

        return raydp_ml.TorchEstimator(
            network, loss="BCEWithLogitsLoss", lr=RATE, batch_size=BATCH * workers, num_epochs=epochs, num_workers=workers,
            resources_per_worker={"CPU": 1}, threads=1, label_column="y", loop=Timed, verbose=False,
        )  # fmt: skip

    def fit_ours(self, epochs, workers=1):
        """A whole fit, and its epochs alone."""
        model = self._net(epochs, workers)
        whole = seconds_of(lambda: model.fit(self._df))["seconds"]
        self._last = model
        return {"whole": whole, "epochs": sum(entry["epoch_seconds"] for entry in model.history_)}

    def fit_plain(self, epochs):
        """A loop as it is written by hand, which takes the rows of each batch out of two tensors."""
        X, y = torch.from_numpy(self._X), torch.from_numpy(self._y)

        def train():
            model = network()
            optimizer, compare = torch.optim.Adam(model.parameters(), lr=RATE), torch.nn.BCEWithLogitsLoss()
            for _ in range(epochs):
                order = torch.randperm(len(X))
                for start in range(0, len(X), BATCH):
                    rows = order[start : start + BATCH]
                    optimizer.zero_grad()
                    compare(model(X[rows])[:, 0], y[rows]).backward()
                    optimizer.step()

        return seconds_of(train)

    def predict_ours(self):
        """Predictions of the Spark frame, inside Spark."""
        return seconds_of(lambda: self._last.predict(self._df).agg({"prediction": "sum"}).collect())

    def predict_plain(self):
        """What predictions in Spark cannot do without: the features through a Python worker, and the network on the matrix."""
        identity = identity_seconds(self._df)

        def forward():
            model = self._last.model_.eval()
            with torch.no_grad():
                for start in range(0, len(self._X), 1 << 14):
                    torch.sigmoid(model(torch.from_numpy(self._X[start : start + (1 << 14)])))

        return {"seconds": identity + seconds_of(forward)["seconds"]}


if __name__ == "__main__":
    sys.stderr.flush()
    fits = Torch()
    serve({run: getattr(fits, run) for run in ("begin", "fit_ours", "fit_plain", "predict_ours", "predict_plain")})
