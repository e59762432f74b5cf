"""Training and encoding against the same network in a bare torch loop, on MNIST."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import torch
from nearfar.training.config import TrainConfig
from nearfar.training.loop import Phase, Position
from nearfar.training.objective import Objective, Reconstruction
from nearfar.training.processes import launch
from nearfar.training.relation import Relation
from torch.nn.functional import mse_loss

from benchmarks.turns import in_turns, ratio, seconds
from nearfar.data import Images, open_images, to_unit
from nearfar.models import Architecture, apply_to_all
from nearfar.pretext import Identity

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

    trained = {
        kind: partial(epoch_seconds, fabric, network, objective, images)
        for kind, objective in kinds.items()
    }
    taken = in_turns({"bare loop": partial(_bare_epoch, network, images), **trained}, ROUNDS)
    plain, bare = taken.pop("autoencoder"), taken.pop("bare loop")
    return {
        **{
            f"NRE epoch ÷ autoencoder epoch: {kind}": ratio(own, plain)
            for kind, own in taken.items()
        },
        "autoencoder training: images/s ÷ bare loop's": ratio(bare, plain),
        "autoencoder epoch, seconds": median(plain),
    }


def encoding() -> dict[str, float]:
    """Encoding, as a ratio to a bare loop over the same network."""
    images = open_images("mnist:train")
    network = Architecture(images.shape).build().eval()
    device = torch.device("cpu")
    taken = in_turns(
        {
            "bare": partial(seconds, _bare_encoding, network.encoder, images),
            "ours": partial(seconds, partial(apply_to_all, device=device), network.encoder, images),
        },
        SHORT_ROUNDS,
        unmeasured=1,
    )
    return {
        "encoding: images/s ÷ bare loop's": ratio(taken["bare"], taken["ours"]),
        "encoding, images/s": len(images) / median(taken["ours"]),
    }


def epoch_seconds(
    fabric: Any, network: Any, objective: Any, images: Images, batch: int = BATCH
) -> float:
    """How long an epoch of a copy of the network takes."""
    phase = Phase(
        fabric,
        copy.deepcopy(network),
        objective,
        images,
        epochs=1,
        batch_size=batch,
        lr=1e-3,
        seed=(0,),
        listener=_Silence(),
    )
    return seconds(phase.run)


def _bare_epoch(network: Any, images: Images) -> float:
    network = copy.deepcopy(network)
    pixels = images.batch(torch.arange(len(images)))
    adam = torch.optim.Adam(network.parameters(), lr=1e-3)

    def run() -> None:
        for rows in torch.randperm(len(pixels)).split(BATCH):
            batch = to_unit(pixels[rows])
            loss = mse_loss(network(batch).reconstruction, batch)
            adam.zero_grad()
            loss.backward()
            adam.step()

    return seconds(run)


@torch.no_grad()
def _bare_encoding(encoder: Any, images: Images) -> None:
    pixels = images.batch(torch.arange(len(images)))
    torch.cat([encoder(to_unit(batch)) for batch in pixels.split(BATCH)])
