"""Training of the autoencoder shared by both NRE methods."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nearfar import runs
from nearfar.anomaly.clips import Clip
from nearfar.anomaly.patches import gather_patches
from nearfar.anomaly.registry import FitContext
from nearfar.training import train

NETWORK = "network"


def train_network(clips: Sequence[Clip], context: FitContext) -> Path:
    """Train an autoencoder on patches of normal clips, and return its run folder.

    Interrupted training is resumed. The run folder is in the scratch folder, so that a second
    method can use the same trained network.
    """
    folder, config = context.scratch / NETWORK, context.config
    if not runs.is_finished(folder):
        images = gather_patches(
            context.track(clips, "cutting patches", len(clips)),
            config.patch,
            # No overlap, since a patch's neighbors should not be the same patch, shifted.
            config.patch,
            config.frames,
            name="normal patches",
            seed=context.training.seed,
        )
        resume = (folder / runs.CHECKPOINT).is_file()
        train(
            images,
            context.training,
            folder=folder,
            resume=resume,
            overwrite=not resume,
            track=context.track,
        )
    return folder
