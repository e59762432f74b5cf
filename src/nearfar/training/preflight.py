"""Checks before training starts."""

from __future__ import annotations

from pathlib import Path

import torch

from nearfar.config import flatten
from nearfar.data import MIN_SIDE, to_unit
from nearfar.errors import NearfarError, reason
from nearfar.files import check_room
from nearfar.models import Autoencoder, check_batchnorm
from nearfar.runs import RunConfig, check_folder, check_resumable
from nearfar.training.footprint import disk_footprint
from nearfar.training.objectives import Context, Objective, PairedObjective


def preflight(
    context: Context,
    network: Autoencoder,
    objective: Objective,
    record: RunConfig,
    folder: Path | None,
    *,
    resume: bool,
    overwrite: bool,
) -> None:
    """Check everything that can be checked before training, so that training does not fail later.

    Raises
    ------
    NearfarError
        If a setting does not suit the images, the processes or the folder. The message states the
        setting.
    """
    if folder is None and (resume or objective.on_disk):
        what = "resume=True" if resume else "bank='disk'"
        raise NearfarError(f"{what} without a folder: expected a run folder")
    _check_side(context)
    _check_network(context, network)
    _check_batches(context, network, objective)
    if folder is None:
        return
    if resume:
        check_resumable(folder, record)
    elif context.fabric.is_global_zero:
        needed = sum(disk_footprint(context, network, objective).values())
        check_room(folder, needed, "bank, embeddings and checkpoints")
        check_folder(folder, overwrite=overwrite)


def _check_side(context: Context) -> None:
    """Check that the images are large enough for inpainting and augmentation."""
    options, shape = flatten(context.config), context.images.shape
    for name in ("pretext", "augmentation"):
        value = options.get(name)
        if min(shape[1:]) < MIN_SIDE and value in ("inpainting", "shapes", "photos"):
            raise NearfarError(
                f"{name}={value!r} with images of shape {shape}: expected at least "
                f"{MIN_SIDE}x{MIN_SIDE} pixels; smaller ones count as features"
            )


def _check_network(context: Context, network: Autoencoder) -> None:
    """Check that the network accepts the images and returns images of the same shape."""
    shape, image = context.images.shape, to_unit(context.images[0]).unsqueeze(0)
    try:
        with torch.no_grad():
            embeddings, reconstruction = network.eval()(image)
        made = tuple(embeddings.shape), tuple(reconstruction.shape)
    except Exception as error:  # a user's network may raise anything
        raise NearfarError(
            f"the network does not take images of shape {shape}: {reason(error)}"
        ) from error
    if made[1] != image.shape or len(made[0]) != 2:
        raise NearfarError(
            f"the network computes embeddings {made[0]} and images {made[1]} from "
            f"{tuple(image.shape)}: expected (1, d) and the same"
        )


def _check_batches(context: Context, network: Autoencoder, objective: Objective) -> None:
    """Check that batches are large enough.

    Each process needs at least one image of every batch. If the objective compares images, or batch
    normalization cannot be trained on a single image, each part of a batch needs two images.
    """
    optim, n, processes = context.config.optim, len(context.images), context.fabric.world_size
    smallest = n // -(-n // optim.batch_size)
    if smallest < processes:
        raise NearfarError(
            f"batch_size={optim.batch_size} for {n} images: expected at least one image in every "
            f"batch for each of {processes} processes"
        )
    alone = processes == 1 and smallest < 2 * optim.accumulate
    if isinstance(objective, PairedObjective) and optim.epochs and alone:
        raise NearfarError(
            f"batch_size={optim.batch_size} with accumulate={optim.accumulate} and "
            f"{context.config.method}, which relates the images of a part: expected at least two "
            f"images in each of {optim.accumulate} parts of {smallest} images"
        )
    if smallest // processes < 2 * optim.accumulate:  # a part has one image
        check_batchnorm(network, context.images.shape)
