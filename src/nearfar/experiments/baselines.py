"""Baselines: other self-supervised methods, with losses and heads from the library lightly.

The widths of the heads, relative to the embedding size, are the same as in the examples of lightly.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nearfar.augmentation import make_augmentation
from nearfar.config import Backbone, ContrastiveObjective, NetworkConfig, TrainConfig
from nearfar.errors import NearfarError, require
from nearfar.models import Autoencoder, default_embedding_size
from nearfar.training import Context, Objective, Step

EXTRA = "baselines"
PROJECTION, BYOL_PROJECTION = 128, 256
#: Size of NNCLR's bank of recent projections: at most half of the images, so that no image occurs
#: twice.
BANK_ROWS = 4096
#: Momentum of BYOL's moving-average teacher.
MOMENTUM = 0.99
#: Temperature of our recipe.
TEMPERATURE = ContrastiveObjective.temperature


class Heads(nn.Module, ABC):
    """Encoder with the heads of a self-supervised method.

    Parameters
    ----------
    encoder : nn.Module
        Module that takes images (float[b, c, h, w]) and returns embeddings (float[b, d]).
    embedding_size : int
        Dimension d of the embeddings.
    images : int
        Number of training images.
    """

    def __init__(self, encoder: nn.Module, embedding_size: int, images: int) -> None:
        super().__init__()
        self.encoder, self.own = encoder, self.settings(embedding_size)

    @staticmethod
    @abstractmethod
    def settings(d: int) -> dict[str, Any]:
        """Return the settings of the method, such as head widths, for embedding dimension d."""

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embeddings (float[2b, d]) of two views per image, and the loss.

        `views` contains the first views of b images, followed by the second views.
        """
        embeddings = self.encoder(views)
        return embeddings, self.relate(embeddings, views)

    @abstractmethod
    def relate(self, embeddings: Tensor, views: Tensor) -> Tensor:
        """Return the scalar loss for embeddings (float[2b, d]) of views (float[2b, c, h, w])."""


class SimCLRHeads(Heads):
    """SimCLR [1]_: each view is contrasted with all views of other images in the batch.

    References
    ----------
    .. [1] T. Chen et al., "A simple framework for contrastive learning of visual
       representations", ICML 2020.
    """

    def __init__(self, encoder: nn.Module, embedding_size: int, images: int) -> None:
        super().__init__(encoder, embedding_size, images)
        self.project = _heads().SimCLRProjectionHead(*self.own["project"])
        self.loss = _losses().NTXentLoss(self.own["temperature"])

    @staticmethod
    def settings(d: int) -> dict[str, Any]:
        """See `Heads.settings`."""
        return {"project": (d, d, PROJECTION), "temperature": TEMPERATURE}

    def relate(self, embeddings: Tensor, views: Tensor) -> Tensor:
        """See `Heads.relate`."""
        return self.loss(*self.project(embeddings).chunk(2))


class NNCLRHeads(Heads):
    """NNCLR [1]_: a view predicts the nearest neighbor of the other view in a memory bank.

    References
    ----------
    .. [1] D. Dwibedi et al., "With a little help from my friends: nearest-neighbor contrastive
       learning of visual representations", ICCV 2021.
    """

    def __init__(self, encoder: nn.Module, embedding_size: int, images: int) -> None:
        super().__init__(encoder, embedding_size, images)
        self.project = _heads().NNCLRProjectionHead(*self.own["project"])
        self.predict = _heads().NNCLRPredictionHead(*self.own["predict"])
        bank = require("lightly.models.modules.nn_memory_bank", extra=EXTRA).NNMemoryBankModule
        self.nearest = bank((min(self.own["bank_rows"], images // 2), PROJECTION))
        for name, buffer in list(self.nearest.named_buffers()):
            self.nearest.register_buffer(name, buffer)  # persistent, for checkpoints
        self.loss = _losses().NTXentLoss(self.own["temperature"])

    @staticmethod
    def settings(d: int) -> dict[str, Any]:
        """See `Heads.settings`."""
        return {
            "project": (d, d, PROJECTION),
            "predict": (PROJECTION, d, PROJECTION),
            "bank_rows": BANK_ROWS,
            "temperature": TEMPERATURE,
        }

    def relate(self, embeddings: Tensor, views: Tensor) -> Tensor:
        """See `Heads.relate`."""
        projections = self.project(embeddings)
        first, second = projections.detach().chunk(2)
        from_first, from_second = self.predict(projections).chunk(2)
        near_first, near_second = self.nearest(first), self.nearest(second, update=True)
        return (self.loss(near_first, from_second) + self.loss(near_second, from_first)) / 2


class VICRegHeads(Heads):
    """VICReg [1]_: the projections of two views agree, and their dimensions vary independently.

    References
    ----------
    .. [1] A. Bardes, J. Ponce, Y. LeCun, "VICReg: variance-invariance-covariance regularization
       for self-supervised learning", ICLR 2022.
    """

    def __init__(self, encoder: nn.Module, embedding_size: int, images: int) -> None:
        super().__init__(encoder, embedding_size, images)
        self.project = _heads().VICRegProjectionHead(*self.own["project"])
        self.loss = _losses().VICRegLoss()

    @staticmethod
    def settings(d: int) -> dict[str, Any]:
        """See `Heads.settings`."""
        return {"project": (d, 4 * d, 4 * d)}

    def relate(self, embeddings: Tensor, views: Tensor) -> Tensor:
        """See `Heads.relate`."""
        return self.loss(*self.project(embeddings).chunk(2))


class BYOLHeads(Heads):
    """BYOL [1]_: one view predicts the projection of the other view by a moving-average teacher.

    References
    ----------
    .. [1] J.-B. Grill et al., "Bootstrap your own latent", NeurIPS 2020.
    """

    def __init__(self, encoder: nn.Module, embedding_size: int, images: int) -> None:
        super().__init__(encoder, embedding_size, images)
        self.project = _heads().BYOLProjectionHead(*self.own["project"])
        self.predict = _heads().BYOLPredictionHead(*self.own["predict"])
        self.teacher = copy.deepcopy(self.student()).requires_grad_(False)
        self.update = require("lightly.models.utils", extra=EXTRA).update_momentum
        self.loss = _losses().NegativeCosineSimilarity()

    @staticmethod
    def settings(d: int) -> dict[str, Any]:
        """See `Heads.settings`."""
        return {
            "project": (d, 2 * d, BYOL_PROJECTION),
            "predict": (BYOL_PROJECTION, 2 * d, BYOL_PROJECTION),
            "momentum": MOMENTUM,
        }

    def student(self) -> nn.Module:
        """Return the student: the encoder with the projection head."""
        return nn.Sequential(self.encoder, self.project)

    def relate(self, embeddings: Tensor, views: Tensor) -> Tensor:
        """See `Heads.relate`."""
        self.update(self.student(), self.teacher, self.own["momentum"])
        first, second = self.predict(self.project(embeddings)).chunk(2)
        of_first, of_second = self.teacher(views).detach().chunk(2)
        return (self.loss(first, of_second) + self.loss(second, of_first)) / 2


def embedding_size(config: TrainConfig) -> int:
    """Return the embedding size of the network in a configuration."""
    if not isinstance(config.network, NetworkConfig):
        raise NearfarError("lightly's methods with your own network: expected ConvNet or Backbone")
    if isinstance(config.network, Backbone):
        return config.network.embedding_size or default_embedding_size(config.network)
    return config.network.embedding_size


def _heads() -> ModuleType:
    return require("lightly.models.modules.heads", extra=EXTRA)


def _losses() -> ModuleType:
    return require("lightly.loss", extra=EXTRA)


class Baseline(Objective):
    """Base class of training objectives for lightly methods.

    The methods use the augmentation of our recipe. No decoder is trained.
    """

    heads: ClassVar[type[Heads]]

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.augmentation = make_augmentation("auto", context.images)

    def setup(self, network: Autoencoder, state: Mapping[str, Tensor]) -> nn.Module:
        """See `Objective.setup`."""
        config, images = self.context.config, len(self.context.images)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.method = self.heads(network.encoder, embedding_size(config), images)
        if state:
            encoder = network.encoder.state_dict(prefix="encoder.")
            self.method.load_state_dict({**state, **encoder})
        return self.method

    def __call__(self, model: nn.Module, rows: Tensor, images: Tensor, epoch: float) -> Step:
        """See `Objective`."""
        views = torch.cat([self.augmentation(images), self.augmentation(images)])
        embeddings, loss = model(views)
        return Step(loss, embeddings[: len(images)], {})

    def state(self) -> Mapping[str, Tensor]:
        """Return the state of the heads. The encoder is saved with the network."""
        kept = self.method.state_dict()
        return {name: value for name, value in kept.items() if not name.startswith("encoder.")}


class SimCLR(Baseline):
    """Training objective of SimCLR."""

    heads = SimCLRHeads


class NNCLR(Baseline):
    """Training objective of NNCLR."""

    heads = NNCLRHeads


class VICReg(Baseline):
    """Training objective of VICReg."""

    heads = VICRegHeads


class BYOL(Baseline):
    """Training objective of BYOL."""

    heads = BYOLHeads


METHODS: dict[str, type[Baseline]] = {each.__name__: each for each in (SimCLR, NNCLR, VICReg, BYOL)}
