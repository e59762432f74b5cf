"""Training and encoding against the same network in a bare torch loop, on MNIST."""

from __future__ import annotations

import copy
from functools import partial
from statistics import median
from typing import Any

import torch
from torch.nn.functional import mse_loss

from benchmarks.turns import in_turns, ratio, seconds
from nearfar.config import ConvNet, TrainConfig, configure, recipe
from nearfar.data import Images, open_images, to_unit
from nearfar.models import Autoencoder, apply_to_all, build_network
from nearfar.runs import RunConfig, RunData, RunFolder
from nearfar.training import Context, Objective, Reconstruction, Relational, Trainer
from nearfar.training.distributed import launch

BATCH = 256
ROUNDS = 3
SHORT_ROUNDS = 15  # of what takes less than a second
CONFIG = recipe("paper", device="cpu", batch_size=BATCH, epochs=1)


def epochs() -> dict[str, float]:
    """An epoch of each kind of training, as ratios to an epoch of the plain autoencoder."""
    images = open_images("mnist:train")
    torch.manual_seed(0)
    network = build_network(ConvNet(), images.shape)
    plain_objective = Reconstruction(context(images, CONFIG))
    epoch_seconds(network, plain_objective)

    kinds: dict[str, Objective] = {"autoencoder": plain_objective}
    for finder in ("clustered", "exact"):
        for search in ("epoch", "step"):
            if (finder, search) != ("exact", "step"):  # takes minutes
                options = {"finder": finder, "search_every": search}
                config = configure(options, base=CONFIG)
                kinds[f"{finder}, each {search}"] = Relational(context(images, config))

    trained = {
        kind: partial(epoch_seconds, network, objective) for kind, objective in kinds.items()
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
    network = build_network(ConvNet(), images.shape).eval()
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


def context(images: Images, config: TrainConfig) -> Context:
    """Return the surroundings of a training that writes nothing."""
    return Context(images, config, launch(config))


def epoch_seconds(network: Autoencoder, objective: Objective) -> float:
    """Seconds of an epoch of a copy of the network, without the setup of its objective."""
    images, config = objective.context.images, objective.context.config
    folder = RunFolder(None, RunConfig(RunData.of(images), config))
    fabric = objective.context.fabric
    trainer = Trainer(fabric, copy.deepcopy(network), images, config.optim, folder)
    whole = seconds(partial(trainer.fit, "train", objective, epochs=1, lr=1e-3))
    return whole - trainer.setup_seconds


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
