"""Convolutional autoencoder with parameters for all details that the paper does not specify."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from nearfar.models import Autoencoder, initialize_autoencoder

SIDE = 28
WIDTHS = (1, 16, 32, 64)


class PlainNetwork(Autoencoder):
    """Autoencoder for digits: "convolutional, sub-sampling, and fully connected layers" (§3.1).

    Parameters
    ----------
    embedding_size : int
        Dimension of the embeddings.
    kernel : int
        Kernel size, odd.
    pooling : bool
        Whether to use max pooling instead of stride-2 convolutions.
    hidden : int
        Number of units in a linear layer between the convolutions and the embedding; the decoder
        has the same layer. With 0, there is no such layer.
    signed : bool
        Whether the network scales pixels to [−1, 1].
    embedding_scale : float
        Factor by which the initial weights scale embeddings. The decoder reverses the scaling.
    glorot : bool
        Whether to initialize with uniform weights [1]_ and zero biases, the default in TensorFlow,
        instead of the initial weights of our default network.

    References
    ----------
    .. [1] X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward
       neural networks", AISTATS 2010.

    Examples
    --------
    >>> PlainNetwork(hidden=64)(torch.rand(2, 1, 28, 28)).embeddings.shape
    torch.Size([2, 128])
    """

    def __init__(
        self,
        *,
        embedding_size: int = 128,
        kernel: int = 3,
        pooling: bool = False,
        hidden: int = 0,
        signed: bool = False,
        embedding_scale: float = 1.0,
        glorot: bool = False,
    ) -> None:
        sides = [-(-SIDE // 2**halvings) for halvings in range(len(WIDTHS))]
        padding, top = kernel // 2, (WIDTHS[-1], sides[-1], sides[-1])
        units = [top[0] * top[1] * top[2], *([hidden] if hidden else []), embedding_size]
        encoder: list[nn.Module] = [Affine(2.0, -1.0)] if signed else []
        for inner, outer in pairwise(WIDTHS):
            encoder.append(nn.Conv2d(inner, outer, kernel, 1 if pooling else 2, padding))
            encoder += [nn.ReLU(), *([nn.MaxPool2d(2, ceil_mode=True)] if pooling else [])]
        encoder.append(nn.Flatten())
        for inner, outer in pairwise(units):
            encoder += [nn.Linear(inner, outer), nn.ReLU()]
        decoder: list[nn.Module] = []
        for inner, outer in pairwise(reversed(units)):
            decoder += [nn.Linear(inner, outer), nn.ReLU()]
        decoder.append(nn.Unflatten(1, top))
        for (inner, outer), side in zip(
            pairwise(reversed(WIDTHS)), reversed(sides[:-1]), strict=True
        ):
            added = (side + 1) % 2
            decoder += [nn.ConvTranspose2d(inner, outer, kernel, 2, padding, added), nn.ReLU()]
        decoder[-1:] = [nn.Tanh(), Affine(0.5, 0.5)] if signed else [nn.Sigmoid()]
        super().__init__(nn.Sequential(*encoder), nn.Sequential(*decoder))
        if glorot:
            self.apply(_init_glorot)
        else:
            initialize_autoencoder(self.encoder, self.decoder)
        self._scale(embedding_scale)

    @torch.no_grad()
    def _scale(self, factor: float) -> None:
        """Scale the initial embeddings by a factor, and reverse the scaling in the decoder."""
        linear = [layer for layer in self.modules() if isinstance(layer, nn.Linear)]
        into, out = linear[len(linear) // 2 - 1], linear[len(linear) // 2]
        into.weight.mul_(factor)
        into.bias.mul_(factor)
        out.weight.div_(factor)


def _init_glorot(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


class Affine(nn.Module):
    """Module that multiplies its input by a constant and adds another constant.

    Examples
    --------
    >>> Affine(2.0, -1.0)(torch.tensor([0.0, 1.0]))
    tensor([-1.,  1.])
    """

    def __init__(self, factor: float, shift: float) -> None:
        super().__init__()
        self.factor, self.shift = factor, shift

    def forward(self, values: Tensor) -> Tensor:
        """Return factor · values + shift."""
        return self.factor * values + self.shift
