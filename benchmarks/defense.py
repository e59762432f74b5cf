"""Purification beside one forward pass of the classifier that it guards."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.turns import in_turns, ratio, seconds
from nearfar.config import ConvNet
from nearfar.defense import Classifier, NeighborPurifier, Purifier, magnet
from nearfar.models import build_network

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
    purifier = Purifier(build_network(ConvNet(), SHAPE), SHAPE)
    whole = magnet(purifier, target, images, false_positive_rate=0.05)
    ours = ConvNet(embedding_size=256, batch_norm=True)
    by_neighbors = NeighborPurifier(
        build_network(ours, SHAPE), SHAPE, torch.randn(BANK, ours.embedding_size)
    )
    calls: dict[str, Callable[[Tensor], Tensor]] = {
        "target": target,
        "NRE purification": purifier,
        "purification by nearfar of Table 3": Purifier(build_network(ours, SHAPE), SHAPE),
        "encoding by it, and consensus of neighbors": by_neighbors.defend(target),
        "MagNet, detectors and reformer": lambda batch: (
            purifier(batch) + whole.rejection_score(batch)[0]
        ),
    }
    taken = in_turns(
        {name: partial(seconds, call, images) for name, call in calls.items()},
        ROUNDS,
        unmeasured=3,
    )
    alone = taken.pop("target")
    return {
        f"{name} ÷ forward pass of the target, batch {BATCH}": ratio(found, alone)
        for name, found in taken.items()
    }
