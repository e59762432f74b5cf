"""Base classes of objectives, and the data that objectives exchange with the training loop."""

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
        Folder for embeddings on disk, shared by all processes.
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
    """Result of an objective for a batch.

    Attributes
    ----------
    loss : Tensor
        Mean loss over the batch, a scalar.
    embeddings : Tensor
        Embeddings of the batch (float[b, d]).
    terms : dict of Tensor
        Values to log, by name; each is a scalar, the mean over the batch. If a decoder is trained,
        "pixel" is the mean squared pixel error.

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
        Size of the state of the objective in a checkpoint.

    Examples
    --------
    >>> Footprint(memory=4 * 1000 * 128).disk
    {}
    """

    memory: int = 0
    disk: dict[str, int] = field(default_factory=dict)
    checkpoint: int = 0


class Work(NamedTuple):
    """Work of an objective during a training run, in addition to the training steps.

    Attributes
    ----------
    encodings : float
        How often all images are encoded.
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
    """Base class of training objectives, which compute the loss and may keep a state.

    A custom objective must define `__call__`; the other methods are optional. The constructor takes
    a `Context` and raises `NearfarError` if the context is unsuitable. It must be fast, because it
    is also called to check the settings.

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
        """Return the estimated memory and disk space that the objective needs."""
        return Footprint()

    def work(self, network: Autoencoder) -> Mapping[str, Work]:
        """Return the estimated work in addition to the training steps, by name of the activity."""
        return {}

    def setup(self, network: Autoencoder, state: Mapping[str, Tensor]) -> nn.Module:
        """Prepare for training, before the first epoch or when training resumes.

        Parameters
        ----------
        network : Autoencoder
            Network on the training device.
        state : mapping of str to Tensor
            State from a checkpoint, as returned by `state`. Empty at the start of the phase.

        Returns
        -------
        nn.Module
            Module to train: the network, or a module that also contains additional layers.
        """
        return network

    def start_epoch(self, epoch: int) -> None:  # noqa: B027 (may be left empty)
        """Prepare for the epoch with number `epoch`, from 0."""

    @abstractmethod
    def __call__(self, model: nn.Module, rows: Tensor, images: Tensor, epoch: float) -> Step:
        """Return the loss, the embeddings and the terms to log for a batch.

        Parameters
        ----------
        model : nn.Module
            Module returned by `setup`, wrapped by Fabric.
        rows : Tensor
            Row numbers of the images in the data set (int64[b]).
        images : Tensor
            Clean images (float[b, c, h, w]), with values in [0, 1]. The objective itself applies
            augmentations and corruptions.
        epoch : float
            Progress in this phase: the number of completed epochs, plus the completed fraction of
            the current epoch.
        """

    def state(self) -> Mapping[str, Tensor]:
        """Return the state to save in a checkpoint, so that training can resume at any step."""
        return {}


class PairedObjective(Objective):
    """Base class of objectives on pairs of images.

    `__call__` receives the row numbers (int64[b, 2]) and the images (float[b, 2, c, h, w]) of b
    pairs.

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
        """Return the second row of each pair, given the first rows (int64[b]).

        Both rows of a pair may be equal.
        """
