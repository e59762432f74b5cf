"""What a user would train instead: SimCLR, NNCLR, VICReg and BYOL, of lightly's losses and heads.

Heads are as wide, relative to the embedding, as those of lightly's examples.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from nearfar.augmentation import make_augmentation
from nearfar.data import Images
from nearfar.errors import require
from nearfar.models import Autoencoder
from nearfar.training.config import TrainConfig
from nearfar.training.objective import Step

EXTRA = "baselines"
PROJECTION, BYOL_PROJECTION = 128, 256
#: NNCLR's bank holds the latest projections, of at most half of the images: no sample twice.
BANK_ROWS = 4096
#: How much of itself BYOL's teacher keeps at each step.
MOMENTUM = 0.99


class Method(nn.Module, ABC):
    """An encoder, float[b, c, h, w] to float[b, d], with the heads of its method."""

    def __init__(self, encoder: nn.Module, config: TrainConfig, images: int) -> None:
        super().__init__()
        self.encoder, self.own = encoder, self.settings(config.embedding_size)

    @staticmethod
    @abstractmethod
    def settings(d: int) -> dict[str, Any]:
        """Return the method's own settings for embeddings of length d, such as widths of heads."""

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Embed two views of each image, float[2b, c, h, w], and return the loss."""
        embeddings = self.encoder(views)
        return embeddings, self.relate(embeddings, views)

    @abstractmethod
    def relate(self, embeddings: Tensor, views: Tensor) -> Tensor:
        """Return the loss, a scalar."""


class SimCLR(Method):
    """Each view finds the other one of its image among all views of the batch [1]_.

    References
    ----------
    .. [1] T. Chen et al., "A simple framework for contrastive learning of visual
       representations", ICML 2020.
    """

    def __init__(self, encoder: nn.Module, config: TrainConfig, images: int) -> None:
        super().__init__(encoder, config, images)
        self.project = _heads().SimCLRProjectionHead(*self.own["project"])
        self.loss = _losses().NTXentLoss(config.temperature)

    @staticmethod
    def settings(d: int) -> dict[str, Any]:
        """See `Method`."""
        return {"project": (d, d, PROJECTION)}

    def relate(self, embeddings: Tensor, views: Tensor) -> Tensor:
        """See `Method`."""
        return self.loss(*self.project(embeddings).chunk(2))


class NNCLR(Method):
    """A view is to predict the nearest neighbor of the other one among the latest [1]_.

    References
    ----------
    .. [1] D. Dwibedi et al., "With a little help from my friends: nearest-neighbor contrastive
       learning of visual representations", ICCV 2021.
    """

    def __init__(self, encoder: nn.Module, config: TrainConfig, images: int) -> None:
        super().__init__(encoder, config, images)
        self.project = _heads().NNCLRProjectionHead(*self.own["project"])
        self.predict = _heads().NNCLRPredictionHead(*self.own["predict"])
        bank = require("lightly.models.modules.nn_memory_bank", extra=EXTRA).NNMemoryBankModule
        self.nearest = bank((min(self.own["bank_rows"], images // 2), PROJECTION))
        for name, buffer in list(self.nearest.named_buffers()):
            self.nearest.register_buffer(name, buffer)  # which makes it a part of checkpoints
        self.loss = _losses().NTXentLoss(config.temperature)

    @staticmethod
    def settings(d: int) -> dict[str, Any]:
        """See `Method`."""
        return {
            "project": (d, d, PROJECTION),
            "predict": (PROJECTION, d, PROJECTION),
            "bank_rows": BANK_ROWS,
        }

    def relate(self, embeddings: Tensor, views: Tensor) -> Tensor:
        """See `Method`."""
        projections = self.project(embeddings)
        first, second = projections.detach().chunk(2)
        from_first, from_second = self.predict(projections).chunk(2)
        near_first, near_second = self.nearest(first), self.nearest(second, update=True)
        return (self.loss(near_first, from_second) + self.loss(near_second, from_first)) / 2


class VICReg(Method):
    """Augmentation of an image agree, and the units of projections vary and do not correlate [1]_.

    References
    ----------
    .. [1] A. Bardes, J. Ponce, Y. LeCun, "VICReg: variance-invariance-covariance regularization
       for self-supervised learning", ICLR 2022.
    """

    def __init__(self, encoder: nn.Module, config: TrainConfig, images: int) -> None:
        super().__init__(encoder, config, images)
        self.project = _heads().VICRegProjectionHead(*self.own["project"])
        self.loss = _losses().VICRegLoss()

    @staticmethod
    def settings(d: int) -> dict[str, Any]:
        """See `Method`."""
        return {"project": (d, 4 * d, 4 * d)}

    def relate(self, embeddings: Tensor, views: Tensor) -> Tensor:
        """See `Method`."""
        return self.loss(*self.project(embeddings).chunk(2))


class BYOL(Method):
    """Each view predicts what a teacher, the network's own moving mean, makes of the other [1]_.

    References
    ----------
    .. [1] J.-B. Grill et al., "Bootstrap your own latent", NeurIPS 2020.
    """

    def __init__(self, encoder: nn.Module, config: TrainConfig, images: int) -> None:
        super().__init__(encoder, config, images)
        self.project = _heads().BYOLProjectionHead(*self.own["project"])
        self.predict = _heads().BYOLPredictionHead(*self.own["predict"])
        self.teacher = copy.deepcopy(self.student()).requires_grad_(False)
        self.update = require("lightly.models.utils", extra=EXTRA).update_momentum
        self.loss = _losses().NegativeCosineSimilarity()

    @staticmethod
    def settings(d: int) -> dict[str, Any]:
        """See `Method`."""
        return {
            "project": (d, 2 * d, BYOL_PROJECTION),
            "predict": (BYOL_PROJECTION, 2 * d, BYOL_PROJECTION),
            "momentum": MOMENTUM,
        }

    def student(self) -> nn.Module:
        """Return what the teacher is the moving mean of."""
        return nn.Sequential(self.encoder, self.project)

    def relate(self, embeddings: Tensor, views: Tensor) -> Tensor:
        """See `Method`."""
        self.update(self.student(), self.teacher, self.own["momentum"])
        first, second = self.predict(self.project(embeddings)).chunk(2)
        of_first, of_second = self.teacher(views).detach().chunk(2)
        return (self.loss(first, of_second) + self.loss(second, of_first)) / 2


def _heads() -> ModuleType:
    return require("lightly.models.modules.heads", extra=EXTRA)


def _losses() -> ModuleType:
    return require("lightly.loss", extra=EXTRA)


#: Each makes a method from an encoder, the choices of training, and how many images there are.
METHODS: dict[str, type[Method]] = {
    method.__name__: method for method in (SimCLR, NNCLR, VICReg, BYOL)
}


class Baseline:
    """A method of lightly as an `Objective`, with our views; it has no use for the decoder."""

    name = "relational"

    def __init__(self, method: str, config: TrainConfig, images: Images, fabric: Fabric) -> None:
        self.make, self.config = METHODS[method], config
        self.images, self.fabric = len(images), fabric
        self.views = make_augmentation(config.views, images.shape)

    def extend(self, network: Autoencoder) -> nn.Module:
        """See `Objective`."""
        with torch.random.fork_rng():
            torch.manual_seed(self.config.seed)
            self.method = self.make(network.encoder, self.config, self.images)
        return self.method

    def start_epoch(self, epoch: int, encoder: nn.Module) -> None:
        """Nothing to prepare."""

    def __call__(self, model: nn.Module, rows: Tensor, images: Tensor, epoch: float) -> Step:
        """See `Objective`."""
        embeddings, loss = model(torch.cat([self.views(images), self.views(images)]))
        return Step(loss, embeddings[: len(images)], {})

    def state(self) -> Mapping[str, Tensor]:
        """All but the encoder, which is kept as a part of the network."""
        kept = self.method.state_dict()
        return {name: value for name, value in kept.items() if not name.startswith("encoder.")}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Objective`."""
        encoder = self.method.encoder.state_dict(prefix="encoder.")
        self.method.load_state_dict({**state, **encoder})
