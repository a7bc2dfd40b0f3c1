"""The part ``torch`` of ``make bench-training``: a small network on a Spark frame beside a loop of plain PyTorch."""

from __future__ import annotations

from harness import Candidate, Target, peer_python
from training_parts import Measured, Part, Size, training

__all__ = ["PART", "PEER_PART"]

EPOCHS = (1, 5)


def measure(size: Size, measured: Measured) -> None:
    """Whole fits, their epochs, two workers and predictions, each beside what plain libraries take."""
    with training("training-torch", "plain_torch.py") as candidate:
        candidate.ask(limit=600, run="begin", rows=size.large_rows)
        for number in range(size.rounds + 1):
            asked = {f"{epochs} epochs": candidate.ask(limit=900, run="fit_ours", epochs=epochs) for epochs in EPOCHS}
            plain = {epochs: candidate.ask(limit=900, run="fit_plain", epochs=epochs)["seconds"] for epochs in EPOCHS}
            # Two workers have twice the rows in a batch, so that each has as many in its share.
            two = candidate.ask(limit=900, run="fit_ours", epochs=EPOCHS[-1], workers=2)["epochs"]
            candidate.ask(limit=900, run="fit_ours", epochs=1)
            predict = {side: candidate.ask(limit=600, run=f"predict_{side}")["seconds"] for side in ("ours", "plain")}
            five = asked["5 epochs"]
            print(
                f"torch {number}: five epochs {five['epochs']:.2f} s of a fit of {five['whole']:.2f} s, plain {plain[5]:.2f} s, "
                f"two workers {two:.2f} s; predict {predict['ours']:.2f} s, plain {predict['plain']:.2f} s",
                flush=True,
            )
            if not number:  # the first round warms up
                continue
            for epochs in EPOCHS:
                measured.add(f"torch, fit of {epochs}", asked[f"{epochs} epochs"]["whole"])
                measured.add(f"torch, plain loop of {epochs}", plain[epochs])
            measured.add("torch, epochs", asked["5 epochs"]["epochs"])
            measured.add("torch, epochs of two workers", two)
            for side, seconds in predict.items():
                measured.add(f"torch, predict, {side}", seconds)


def measure_peer(size: Size, measured: Measured) -> None:
    """Whole fits of five epochs beside RayDP's TorchEstimator, each on a frame that its own Spark has cached."""
    python = peer_python(trains=True)
    with training("training-torch", "plain_torch.py") as ours:
        peer = Candidate("training-torch-raydp", python, "peer_torch.py", [])
        try:
            for candidate in (ours, peer):
                candidate.ask(limit=600, run="begin", rows=size.large_rows)
            for number in range(size.rounds + 1):
                seconds = {
                    "ours": ours.ask(limit=900, run="fit_ours", epochs=EPOCHS[-1])["whole"],
                    "RayDP": peer.ask(limit=1800, run="fit", epochs=EPOCHS[-1])["seconds"],
                }
                for side, value in seconds.items():
                    if number:  # the first round warms up
                        measured.add(f"torch, whole fit, {side}", value)
                print(f"raydp {number}: fit {seconds['ours']:.2f} s, RayDP's {seconds['RayDP']:.2f} s", flush=True)
        finally:
            peer.close()


PART = Part(
    measure,
    [
        Target("five epochs against a plain loop, torch", "torch, epochs", "torch, plain loop of 5", at_most_times=1.0),
        Target("fit of one epoch against a plain loop, torch", "torch, fit of 1", "torch, plain loop of 1", at_most_times=1.5),
        Target("fit of five epochs against a plain loop, torch", "torch, fit of 5", "torch, plain loop of 5", at_most_times=1.2),
        Target("predict against an identity UDF and forward, torch", "torch, predict, ours", "torch, predict, plain",
               at_most_times=0.85),
        Target("epochs of two workers of one thread against one", "torch, epochs of two workers", "torch, epochs",
               at_least_times=1.4),
    ],
)  # fmt: skip

PEER_PART = Part(
    measure_peer,
    [
        Target("fit of five epochs against RayDP's TorchEstimator", "torch, whole fit, ours", "torch, whole fit, RayDP",
               at_least_times=5.0),
    ],
)  # fmt: skip
