"""Purification beside one forward pass of the classifier that it guards."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from nearfar.defense import Classifier, NeighborPurifier, Purifier, magnet
from nearfar.models import Architecture

SHAPE = (1, 28, 28)
BATCH = 256
ROUNDS = 15
#: Training images that the nearest are taken of.
BANK = 50_000


@torch.no_grad()
def purification() -> dict[str, float]:
    """Seconds of purification, and of MagNet's detectors, ÷ those of the target CNN."""
    torch.manual_seed(0)
    images = torch.rand(BATCH, *SHAPE)
    target = Classifier("target", SHAPE, 10).eval()
    purifier = Purifier(Architecture(SHAPE).build(), SHAPE)
    whole = magnet(purifier, target, images, false_positive_rate=0.05)
    ours = Architecture(SHAPE, code_size=256, normalized=True)
    by_neighbors = NeighborPurifier(ours.build(), SHAPE, torch.randn(BANK, ours.code_size))
    calls: dict[str, Callable[[Tensor], Tensor]] = {
        "target": target,
        "NRE purification": purifier,
        "purification by the network of --recipe nearfar": Purifier(ours.build(), SHAPE),
        "encoding by it, and consensus of neighbors": by_neighbors.guard(target),
        "MagNet, detectors and reformer": lambda batch: purifier(batch) + whole.suspicion(batch)[0],
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS + 3):
        for name, call in calls.items():
            start = time.perf_counter()
            call(images)
            seconds[name].append(time.perf_counter() - start)
    return {
        f"{name} ÷ forward pass of the target, batch {BATCH}": median(
            a / b for a, b in zip(seconds[name][3:], seconds["target"][3:], strict=True)
        )
        for name in calls
        if name != "target"
    }
