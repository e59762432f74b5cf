"""Objective: the interface of everything that a network can be trained for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from nearfar.config import TrainConfig
from nearfar.data import Images
from nearfar.models import Autoencoder
from nearfar.progress import Track, silent


@dataclass(frozen=True)
class Context:
    """Surroundings of a training, as objectives see them.

    Parameters
    ----------
    images : Images
        The training images.
    config : TrainConfig
        All settings.
    fabric : Fabric
        Device, precision and processes.
    folder : Path, optional
        Where embeddings on disk belong; all processes see it.
    track : Track
        Shows progress.

    Examples
    --------
    >>> from lightning_fabric import Fabric
    >>> from nearfar.data import ArrayImages
    >>> images = ArrayImages(torch.rand(20, 1, 8, 8))
    >>> context = Context(images, TrainConfig(), Fabric(accelerator="cpu", devices=1))
    >>> context.config.method
    'NRE'
    """

    images: Images
    config: TrainConfig
    fabric: Fabric
    folder: Path | None = None
    track: Track = silent


class Step(NamedTuple):
    """One evaluation of an objective on a batch.

    Attributes
    ----------
    loss : Tensor
        Scalar to minimize, a mean over the batch.
    embeddings : Tensor
        Embeddings of the batch, float[b, d].
    terms : dict of Tensor
        Scalars for the log, means over the batch; `pixel` is the squared pixel error, where a
        decoder is trained.

    Examples
    --------
    >>> loss = torch.tensor(0.5)
    >>> Step(loss, torch.zeros(8, 2), {"pixel": loss}).terms
    {'pixel': tensor(0.5000)}
    """

    loss: Tensor
    embeddings: Tensor
    terms: dict[str, Tensor]


@dataclass(frozen=True)
class Footprint:
    """Memory and disk that an objective needs beside the network, in bytes.

    Parameters
    ----------
    memory : int
        Peak memory of embeddings, on the device of the bank.
    disk : dict of int
        Disk space in the run folder during training, by purpose.
    checkpoint : int
        Its part of a checkpoint.

    Examples
    --------
    >>> Footprint(memory=4 * 1000 * 128).disk
    {}
    """

    memory: int = 0
    disk: dict[str, int] = field(default_factory=dict)
    checkpoint: int = 0


class Objective:
    """Base class of objectives: a loss, with its state.

    An objective of your own needs `__call__`; the rest has defaults. Its constructor takes a
    `Context`, must be cheap, and raises `NearfarError` if the context does not fit.

    Examples
    --------
    >>> class PixelL1(Objective):
    ...     def __call__(self, model, rows, images, epoch):
    ...         output = model(images)
    ...         loss = (output.reconstruction - images).abs().mean()
    ...         return Step(loss, output.embeddings, {"pixel_l1": loss.detach()})
    >>> config = TrainConfig(objective=PixelL1)
    """

    def __init__(self, context: Context) -> None:
        self.context = context

    def footprint(self, network: Autoencoder) -> Footprint:
        """Estimate memory and disk for training a network."""
        return Footprint()

    def setup(self, network: Autoencoder, state: Mapping[str, Tensor]) -> nn.Module:
        """Prepare for training, before the first epoch or after a resume.

        Parameters
        ----------
        network : Autoencoder
            The network, on its device.
        state : mapping of str to Tensor
            What `state` returned when the training was stopped; empty at the start.

        Returns
        -------
        nn.Module
            What is trained: the network, or a module that holds it beside further layers.
        """
        return network

    def start_epoch(self, epoch: int) -> None:
        """Prepare for an epoch, numbered from 0."""

    @abstractmethod
    def __call__(self, model: nn.Module, rows: Tensor, images: Tensor, epoch: float) -> Step:
        """Evaluate the objective on a batch.

        Parameters
        ----------
        model : nn.Module
            What `setup` returned, wrapped by Fabric.
        rows : Tensor
            Rows of the images in the data set, int64[b].
        images : Tensor
            float[b, c, h, w], where 0…1 is black…white.
        epoch : float
            Epochs of this phase that are done, with the fraction of the current one.
        """

    def state(self) -> Mapping[str, Tensor]:
        """Return what is needed to continue in the middle of an epoch."""
        return {}


class PairedObjective(Objective):
    """Objective on pairs: each image beside another one of the data set.

    It is called with rows int64[b, 2] and images float[b, 2, c, h, w].

    Examples
    --------
    >>> class Slowness(PairedObjective):
    ...     def partners(self, rows, generator):
    ...         return (rows + 1) % len(self.context.images)
    ...     def __call__(self, model, rows, images, epoch):
    ...         first, second = (model(each) for each in images.unbind(1))
    ...         loss = (first.embeddings - second.embeddings).square().mean()
    ...         return Step(loss, first.embeddings, {"slow": loss.detach()})
    >>> config = TrainConfig(objective=Slowness)
    """

    @abstractmethod
    def partners(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the other image of each pair, int64[b]; it may be the image itself."""
