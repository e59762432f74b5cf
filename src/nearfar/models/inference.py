"""Running a network over a set of images, without gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from nearfar.data import Images, in_order, load, to_unit
from nearfar.errors import NearfarError
from nearfar.files import readable_size
from nearfar.progress import Track, silent

INFERENCE_BATCH = 256


def resolve_device(name: str) -> torch.device:
    """Return the device that "auto", "cpu", "cuda" or "mps" stands for here.

    Raises
    ------
    NearfarError
        If this machine has none of that kind.
    """
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, here in present.items() if here))
    if not present.get(name):
        here = ", ".join(kind for kind, found in present.items() if found)
        raise NearfarError(f"device {name!r} is not on this machine: expected auto, {here}")
    return torch.device(name)


@torch.no_grad()
def apply(
    network: Callable[[Tensor], Tensor],
    images: Images,
    *,
    device: torch.device,
    rows: range | None = None,
    track: Track = silent,
    description: str = "encoding",
) -> Iterator[tuple[Tensor, Tensor]]:
    """Apply a network to images in their order, a batch at a time.

    Parameters
    ----------
    network : callable
        From float[b, c, h, w], where 0…1 is black…white; a module should be in evaluation mode
        and on `device`.
    rows : range, optional
        Which images; all of them if not given.

    Yields
    ------
    indices : int64[b]
        The rows of the batch.
    results : Tensor
        float32[b, …], on `device`.
    """
    rows = range(len(images)) if rows is None else rows
    batches = in_order(rows, INFERENCE_BATCH)
    for indices, pixels in track(load(images, batches), description, len(batches)):
        yield indices, network(to_unit(pixels.to(device, non_blocking=True))).float()


def apply_to_all(
    network: Callable[[Tensor], Tensor],
    images: Images,
    *,
    device: torch.device,
    track: Track = silent,
    description: str = "encoding",
) -> Tensor:
    """Apply a network to all images and keep what it gives, float32[n, …] on the CPU.

    Raises
    ------
    NearfarError
        If memory has no room for that.
    """
    results = torch.empty(0)
    done = 0
    for _, values in apply(network, images, device=device, track=track, description=description):
        if done == 0:
            results = _room(len(images), *values.shape[1:])
        results[done : done + len(values)] = values.cpu()
        done += len(values)
    return results


@torch.no_grad()
def embedding_size(encoder: nn.Module, images: Images) -> int:
    """Return the length d of the embeddings that an encoder computes of images.

    Parameters
    ----------
    encoder : nn.Module
        From float[b, c, h, w] to float[b, d], in evaluation mode.
    images : Images
        At least one image, which is encoded.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from nearfar.data import images_from_array
    >>> embedding_size(nn.Flatten(), images_from_array(np.zeros((2, 8, 8))))
    64
    """
    device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    return int(encoder(to_unit(images[0]).unsqueeze(0).to(device)).shape[1])


def _room(*shape: int) -> Tensor:
    """Float32 values yet to be filled in."""
    try:
        return torch.empty(shape)
    except RuntimeError as error:
        needed = readable_size(4 * math.prod(shape))
        raise NearfarError(
            f"no memory for the results of {shape[0]} images: {needed} are needed; give fewer at "
            "once"
        ) from error


def state_bytes(module: nn.Module) -> int:
    """Return the size of a module's weights and buffers.

    Examples
    --------
    >>> state_bytes(nn.Linear(3, 2))
    32
    """
    return sum(tensor.nbytes for tensor in module.state_dict().values())
