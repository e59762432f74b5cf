"""Autoencoder with the layers of ALOCC, an earlier method by the authors of the paper.

M. Sabokrou et al., "Adversarially Learned One-Class Classifier for Novelty Detection" (ALOCC), CVPR
2018. ALOCC was published one year before the paper and uses the same data sets and the same GPU
model. The published code of ALOCC suggests values for settings that the paper does not state.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from nearfar.experiments.plain_network import Affine
from nearfar.models import Autoencoder

WIDTHS = (1, 32, 64, 128)


class ALOCCNetwork(Autoencoder):
    """Autoencoder of 5×5 convolutions with stride 2 and batch normalization.

    Embeddings have 2,048 dimensions.

    Parameters
    ----------
    side : int
        Side of the square images, in pixels: 28 for digits, 30 for patches.
    signed : bool
        Whether the network scales pixels to [−1, 1].

    Examples
    --------
    >>> import torch
    >>> ALOCCNetwork(30)(torch.rand(2, 1, 30, 30)).embeddings.shape
    torch.Size([2, 2048])
    """

    def __init__(self, side: int, *, signed: bool = True) -> None:
        sides = [-(-side // 2**halvings) for halvings in range(len(WIDTHS))]
        encoder: list[nn.Module] = [Affine(2.0, -1.0)] if signed else []
        for inner, outer in pairwise(WIDTHS):
            encoder += [nn.Conv2d(inner, outer, 5, 2, 2), nn.BatchNorm2d(outer), nn.ReLU()]
        decoder: list[nn.Module] = [nn.Unflatten(1, (WIDTHS[-1], sides[-1], sides[-1]))]
        for (inner, outer), larger in zip(
            pairwise(reversed(WIDTHS)), reversed(sides[:-1]), strict=True
        ):
            decoder.append(nn.ConvTranspose2d(inner, outer, 5, 2, 2, (larger + 1) % 2))
            decoder += [nn.BatchNorm2d(outer), nn.ReLU()]
        decoder[-2:] = [nn.Tanh(), Affine(0.5, 0.5)] if signed else [nn.Sigmoid()]
        super().__init__(nn.Sequential(*encoder, nn.Flatten()), nn.Sequential(*decoder))
