"""Input checks for images, rates and classifiers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy.typing as npt
import torch
from torch import Tensor, nn

from nearfar.data import PIXEL_TOLERANCE, Shape, to_unit
from nearfar.errors import NearfarError, reason


def check_images(images: Tensor, shape: Shape) -> None:
    """Check that images (float[b, c, h, w]) have a given shape (c, h, w) and values in [0, 1].

    Raises
    ------
    NearfarError
        If the images have a different shape, type or range, which the message states.
    """
    if images.ndim != 4 or tuple(images.shape[1:]) != tuple(shape):
        raise NearfarError(
            f"images have shape {tuple(images.shape)}: expected (n, {', '.join(map(str, shape))}), "
            "channels first, as in the run"
        )
    if not images.is_floating_point():
        raise NearfarError(f"images are {images.dtype}: expected floats with values in [0, 1]")
    if not len(images):
        return
    low, high = (float(value.detach()) for value in images.aminmax())
    if not (low >= -PIXEL_TOLERANCE and high <= 1 + PIXEL_TOLERANCE):  # false for NaN, too
        raise NearfarError(
            f"images hold values in {low:g}…{high:g}: expected 0 (black) … 1 (white)"
        )


def as_unit_images(images: Tensor | npt.ArrayLike, shape: Shape) -> Tensor:
    """Convert uint8 or float images to float32[n, c, h, w], and check them with `check_images`."""
    pixels = to_unit(torch.as_tensor(images))
    check_images(pixels, shape)
    return pixels


def check_epsilons(epsilons: Sequence[float]) -> tuple[float, ...]:
    """Check perturbation sizes ε, and return them as a tuple.

    Raises
    ------
    NearfarError
        If there is no ε, or one is outside (0, 1].
    """
    for epsilon in epsilons:
        if not 0 < epsilon <= 1:
            raise NearfarError(
                f"epsilon={epsilon}: expected more than 0 and at most 1, for pixel values in [0, 1]"
            )
    if not epsilons:
        raise NearfarError("no epsilon is given: expected at least one")
    return tuple(epsilons)


def check_rate(rate: float) -> None:
    """Check that a false-positive rate is in (0, 1).

    Raises
    ------
    NearfarError
        If the rate is outside (0, 1).
    """
    if not 0 < rate < 1:
        raise NearfarError(f"false_positive_rate={rate}: expected more than 0 and less than 1")


@torch.no_grad()
def count_classes(classifier: nn.Module, shape: Shape, like: Tensor) -> int:
    """Return the number of classes of a classifier: the number k of its logits (float[b, k]).

    Parameters
    ----------
    classifier : nn.Module
        Classifier.
    shape : tuple of int
        Shape (channels, height, width) of the classifier's input.
    like : Tensor
        Tensor with the device and data type of the classifier's input.

    Raises
    ------
    NearfarError
        If the classifier does not accept images of this shape, or does not return logits.
    """
    images = like.new_full((2, *shape), 0.5)
    try:
        logits = classifier(images)
    except Exception as error:  # the user's code may raise anything
        raise NearfarError(
            f"the classifier does not take images {shape}: {reason(error)}"
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < 2:
        kind = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise NearfarError(
            f"the classifier returns {kind} for two images: expected logits (2, classes)"
        )
    return logits.shape[1]
