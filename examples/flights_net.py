"""The network of the flights example."""

from __future__ import annotations

import torch


class FlightNet(torch.nn.Module):
    """Embeddings for carrier, origin and destination (the first three columns), then two layers over all of it."""

    def __init__(self, carriers: int, origins: int, destinations: int, numbers: int) -> None:
        super().__init__()
        self.embeddings = torch.nn.ModuleList(
            [torch.nn.Embedding(carriers, 4), torch.nn.Embedding(origins, 2), torch.nn.Embedding(destinations, 8)]
        )
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(4 + 2 + 8 + numbers, 64),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.1),
            torch.nn.Linear(64, 32),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.1),
            torch.nn.Linear(32, 1),
        )

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        codes, numbers = rows[:, :3].long(), rows[:, 3:].clamp(-5, 5)
        embedded = [embedding(codes[:, i]) for i, embedding in enumerate(self.embeddings)]
        return self.layers(torch.cat([*embedded, numbers], dim=1))
