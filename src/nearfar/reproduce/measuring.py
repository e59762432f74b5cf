"""What is measured of a trained network, in every table alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from nearfar.artifacts import read_snapshot
from nearfar.data import Images, require_labels
from nearfar.evaluation.scores import Task
from nearfar.models import Autoencoder, apply, apply_to_all, resolve_device
from nearfar.progress import Track, silent

Network = Callable[[Tensor], Tensor]


def network_after(folder: Path, epochs: int) -> Autoencoder:
    """Read the network of a run as it was after so many epochs, onto the device."""
    return read_snapshot(folder, epochs).to(resolve_device("auto")).eval()


def task_on(
    encoder: Network, train: Images, test: Images, seed: int, track: Track = silent
) -> Task:
    """Codes of labeled images to learn from and to be tested on."""
    codes = (encode(encoder, images, track).numpy() for images in (train, test))
    labels = (require_labels(images) for images in (train, test))
    (learned, tested), (learned_labels, tested_labels) = codes, labels
    return Task(learned, learned_labels, tested, tested_labels, seed)


def encode(network: Network, images: Images, track: Track = silent) -> Tensor:
    """Apply a network to all images, float32[n, …]."""
    return apply_to_all(network, images, device=resolve_device("auto"), track=track)


def reconstruct(network: Autoencoder, images: Images, track: Track = silent) -> Tensor:
    """What a network makes of all images, float32[n, c, h, w]."""
    return encode(lambda batch: network(batch).reconstruction, images, track)


def pixel_error(network: Autoencoder, images: Images, track: Track = silent) -> float:
    """Mean squared error of the pixels of the reconstructions."""

    def error(batch: Tensor) -> Tensor:
        made = network(batch).reconstruction.float()
        return mse_loss(made, batch, reduction="none").flatten(1).mean(1)

    device = resolve_device("auto")
    errors = apply(error, images, device=device, track=track, description="reconstructing")
    return float(torch.cat([values for _, values in errors]).double().mean())
