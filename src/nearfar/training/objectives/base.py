"""Base classes of objectives, and their data types for the training loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from nearfar.config import TrainConfig
from nearfar.data import Images
from nearfar.models import Autoencoder
from nearfar.progress import Track, silent

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Context:
    """Images, settings and hardware of a training run, passed to the objective.

    Parameters
    ----------
    images : Images
        Training images.
    config : TrainConfig
        Settings of the training run.
    fabric : Fabric
        Device, precision and processes.
    folder : Path, optional
        Folder of embeddings on disk, shared by all processes.
    track : Track
        Progress display, see `nearfar.progress.Track`.

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
    """Result of an objective on a batch.

    Attributes
    ----------
    loss : Tensor
        Loss, a scalar mean over the batch.
    embeddings : Tensor
        Embeddings of the batch, float[b, d].
    terms : dict of Tensor
        Scalars to log, each a mean over the batch. With a decoder, "pixel" is the squared pixel
        error.

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
    """Memory and disk space that an objective needs in addition to the network, in bytes.

    Parameters
    ----------
    memory : int
        Peak memory of the embeddings and of the search, on the training device.
    disk : dict of int
        Disk space in the run folder during training, by purpose.
    checkpoint : int
        Additional size of a checkpoint.

    Examples
    --------
    >>> Footprint(memory=4 * 1000 * 128).disk
    {}
    """

    memory: int = 0
    disk: dict[str, int] = field(default_factory=dict)
    checkpoint: int = 0


class Work(NamedTuple):
    """Work of an objective in addition to its steps, for a whole training run.

    Attributes
    ----------
    encodings : float
        Number of passes of all images through the encoder of the network.
    multiplications : int
        Number of multiplications in matrix products.

    Examples
    --------
    >>> Work(encodings=2).multiplications
    0
    """

    encodings: float = 0
    multiplications: int = 0


class Objective(ABC):
    """Base class of training objectives, each with a loss and its state.

    A custom objective must define `__call__`; the other methods are optional. The constructor takes
    a `Context` and raises `NearfarError` if the context is unsuitable. It must be fast, since it is
    also called to check the settings.

    Parameters
    ----------
    context : Context
        Images, settings and hardware of the training run.

    Attributes
    ----------
    on_disk : bool
        Whether the embeddings of all images are stored on disk during training.

    Examples
    --------
    >>> class PixelL1(Objective):
    ...     def __call__(self, model, rows, images, epoch):
    ...         output = model(images)
    ...         loss = (output.reconstruction - images).abs().mean()
    ...         return Step(loss, output.embeddings, {"pixel_l1": loss.detach()})
    >>> config = TrainConfig(objective=PixelL1)
    """

    on_disk: bool = False

    def __init__(self, context: Context) -> None:
        self.context = context

    def footprint(self, network: Autoencoder) -> Footprint:
        """Return the estimated memory and disk space needed to train a network."""
        return Footprint()

    def work(self, network: Autoencoder) -> Mapping[str, Work]:
        """Return the estimated work in addition to the training steps, by activity."""
        return {}

    def setup(self, network: Autoencoder, state: Mapping[str, Tensor]) -> nn.Module:
        """Prepare for training, before the first epoch or when training resumes.

        Parameters
        ----------
        network : Autoencoder
            Network, on the training device.
        state : mapping of str to Tensor
            Saved result of `state` to resume from; empty at the start.

        Returns
        -------
        nn.Module
            Module to train: the network, or a module with the network and additional layers.
        """
        return network

    def start_epoch(self, epoch: int) -> None:  # noqa: B027 (may be left empty)
        """Prepare for an epoch, numbered from 0."""

    @abstractmethod
    def __call__(self, model: nn.Module, rows: Tensor, images: Tensor, epoch: float) -> Step:
        """Return the loss on a batch.

        Parameters
        ----------
        model : nn.Module
            Module from `setup`, wrapped by Fabric.
        rows : Tensor
            Row numbers of the images in the data set, int64[b].
        images : Tensor
            Images, float[b, c, h, w], with values in [0, 1].
        epoch : float
            Number of completed epochs of this phase, plus the fraction of the current one.
        """

    def state(self) -> Mapping[str, Tensor]:
        """Return the state to save in a checkpoint, so that training can resume at any step."""
        return {}


class PairedObjective(Objective):
    """Base class of objectives on pairs of images.

    `__call__` receives the row numbers of pairs, int64[b, 2], and their images, float[b, 2, c, h,
    w].

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
        """Return the second row of each pair, int64[b], given the first; both may be equal."""
