"""Training and encoding against the same network in a bare torch loop, on MNIST."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from torch.nn.functional import mse_loss

from nearfar.data import Images, open_images, to_unit
from nearfar.models import Architecture, apply_to_all
from nearfar.pretext import Identity
from nearfar.training.config import TrainConfig
from nearfar.training.loop import Phase, Position
from nearfar.training.objective import Objective, Reconstruction
from nearfar.training.processes import launch
from nearfar.training.relation import Relation

BATCH = 256
ROUNDS = 3
SHORT_ROUNDS = 15  # of what takes less than a second
CONFIG = TrainConfig(device="cpu", batch_size=BATCH)


class _Silence:
    """A listener that keeps nothing."""

    def checkpoint(self, position: Position, state: Any) -> None:
        """Keep nothing."""

    def epoch(self, line: dict[str, Any]) -> None:
        """Say nothing."""


def epochs() -> dict[str, float]:
    """An epoch of each kind of training, as ratios to an epoch of the plain autoencoder."""
    images = open_images("mnist:train")
    fabric = launch(CONFIG)
    torch.manual_seed(0)
    network = Architecture(images.shape).build()
    epoch_seconds(fabric, network, Reconstruction(Identity()), images)

    kinds: dict[str, Objective] = {"autoencoder": Reconstruction(Identity())}
    for finder in ("clustered", "exact"):
        for search in ("epoch", "step"):
            config = replace(CONFIG, finder=finder, search=search)
            if (finder, search) != ("exact", "step"):  # takes minutes
                relation = Relation(config, network.encoder, images, fabric)
                kinds[f"{finder}, each {search}"] = relation

    seconds: dict[str, list[float]] = {kind: [] for kind in ("bare loop", *kinds)}
    for _ in range(ROUNDS):
        seconds["bare loop"].append(_bare_epoch(copy.deepcopy(network), images))
        for kind, objective in kinds.items():
            seconds[kind].append(epoch_seconds(fabric, copy.deepcopy(network), objective, images))
    plain = seconds["autoencoder"]
    ratios = {
        f"NRE epoch ÷ autoencoder epoch: {kind}": median(
            a / b for a, b in zip(seconds[kind], plain, strict=True)
        )
        for kind in kinds
        if kind != "autoencoder"
    }
    bare = median(a / b for a, b in zip(seconds["bare loop"], plain, strict=True))
    return {
        **ratios,
        "autoencoder training: images/s ÷ bare loop's": bare,
        "autoencoder epoch, seconds": median(plain),
    }


def encoding() -> dict[str, float]:
    """Encoding, as a ratio to a bare loop over the same network."""
    images = open_images("mnist:train")
    network = Architecture(images.shape).build().eval()
    device = torch.device("cpu")
    bare, ours = [], []
    for _ in range(SHORT_ROUNDS + 1):
        bare.append(_seconds(lambda: _bare_encoding(network.encoder, images)))
        ours.append(_seconds(lambda: apply_to_all(network.encoder, images, device=device)))
    return {
        "encoding: images/s ÷ bare loop's": median(
            a / b for a, b in zip(bare[1:], ours[1:], strict=True)
        ),
        "encoding, images/s": len(images) / median(ours[1:]),
    }


def epoch_seconds(
    fabric: Any, network: Any, objective: Any, images: Images, batch: int = BATCH
) -> float:
    """How long an epoch takes."""
    phase = Phase(
        fabric,
        network,
        objective,
        images,
        epochs=1,
        batch_size=batch,
        lr=1e-3,
        seed=(0,),
        listener=_Silence(),
    )
    return _seconds(phase.run)


def _bare_epoch(network: Any, images: Images) -> float:
    pixels = images.__getitems__(torch.arange(len(images)))
    adam = torch.optim.Adam(network.parameters(), lr=1e-3)

    def run() -> None:
        for rows in torch.randperm(len(pixels)).split(BATCH):
            batch = to_unit(pixels[rows])
            loss = mse_loss(network(batch).reconstruction, batch)
            adam.zero_grad()
            loss.backward()
            adam.step()

    return _seconds(run)


@torch.no_grad()
def _bare_encoding(encoder: Any, images: Images) -> None:
    pixels = images.__getitems__(torch.arange(len(images)))
    torch.cat([encoder(to_unit(batch)) for batch in pixels.split(BATCH)])


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
