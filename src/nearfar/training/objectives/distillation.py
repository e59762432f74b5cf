"""Distillation from the pretrained encoder from which training starts."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, interpolate

from nearfar.config import TIMM, Backbone
from nearfar.errors import NearfarError
from nearfar.models import (
    BackboneEncoder,
    embedding_size,
    load_pretrained,
    pretrained_size,
)
from nearfar.neighbors import allocate_rows
from nearfar.runs import make_network
from nearfar.training.distributed import fill_bank
from nearfar.training.objectives.base import Context, Footprint


class Distillation:
    """Distillation loss: the distance to the embeddings of the pretrained encoder (the teacher).

    The teacher is a frozen copy of the pretrained encoder. It encodes each image once, without
    augmentation. Small images are first enlarged to the image size for which the encoder was
    pretrained, which improves their embeddings. During training, the loss keeps the embeddings of
    augmented views close to the embeddings of the teacher, so that less is forgotten.

    Parameters
    ----------
    context : Context
        Images, settings and hardware of the training run. The network must start from pretrained
        weights.

    Raises
    ------
    NearfarError
        If the network does not start from pretrained weights.
    """

    def __init__(self, context: Context) -> None:
        network = context.config.network
        if not (isinstance(network, Backbone) and network.pretrained):
            raise NearfarError(
                "distill_weight needs a pretrained teacher: expected a pretrained backbone, "
                "or distill_weight=0"
            )
        self.context, self.network = context, network
        size, side = pretrained_size(network) or 0, min(context.images.shape[1:])
        #: Scale factor for images; AlexNet only takes images of the size for which it was built.
        self.factor = max(1.0, size / side) if network.name.startswith(TIMM) else 1.0

    def footprint(self, encoder: nn.Module) -> Footprint:
        """Return the memory needed for the embeddings of the teacher."""
        images = self.context.images
        return Footprint(memory=4 * len(images) * embedding_size(encoder, images))

    @torch.no_grad()
    def setup(self) -> None:
        """Encode all images with the teacher, and keep the embeddings."""
        images, fabric = self.context.images, self.context.fabric
        encoder = cast(BackboneEncoder, make_network(self.context.config, images.shape).encoder)
        load_pretrained(encoder, self.network.weights)
        teacher = _Enlarging(encoder, self.factor).to(fabric.device).eval()
        self.bank = allocate_rows(len(images), embedding_size(encoder, images), fabric.device)
        fill_bank(self.bank, teacher, images, fabric, self.context.track)
        self.center = self.bank.mean(0)

    def __call__(self, embeddings: Tensor, rows: Tensor) -> Tensor:
        """Return the mean cosine distance of embeddings to the embeddings of the teacher.

        Parameters
        ----------
        embeddings : Tensor
            Embeddings of augmented views (float[b, d]).
        rows : Tensor
            Row number of the image of each view (int64[b]).
        """
        wanted = self.bank[rows.to(self.bank.device)].to(embeddings.device)
        # Centered, since the component common to all embeddings does not distinguish images.
        similarity = cosine_similarity(embeddings.float() - self.center, wanted - self.center)
        return 1 - similarity.mean()


class _Enlarging(nn.Module):
    """Encoder that enlarges images by a factor before they are encoded."""

    def __init__(self, encoder: nn.Module, factor: float) -> None:
        super().__init__()
        self.encoder, self.factor = encoder, factor

    def forward(self, images: Tensor) -> Tensor:
        if self.factor > 1:
            sides = [round(self.factor * side) for side in images.shape[2:]]
            images = interpolate(images, sides, mode="bicubic", antialias=True).clamp(0, 1)
        embeddings: Tensor = self.encoder(images)
        return embeddings
