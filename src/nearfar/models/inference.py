"""Inference: apply a network to a set of images, without gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from nearfar.data import Images, load_batches, sequential_batches, to_unit
from nearfar.errors import NearfarError
from nearfar.files import readable_size
from nearfar.progress import Track, silent

#: Images per batch.
INFERENCE_BATCH = 256


def resolve_device(name: str | torch.device) -> torch.device:
    """Return the device with the given name, after checking that it is available.

    Parameters
    ----------
    name : str or torch.device
        "cpu", "cuda", "mps", or a specific device, such as "cuda:1". "auto" selects the first
        available device of "cuda", "mps" and "cpu".

    Raises
    ------
    NearfarError
        If the machine has no such device, or the default dtype of torch is not float32.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if torch.get_default_dtype() != torch.float32:
        raise NearfarError(
            f"torch's default type is {str(torch.get_default_dtype()).removeprefix('torch.')}: "
            "expected float32, so call torch.set_default_dtype(torch.float32)"
        )
    name = str(name)
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, here in present.items() if here))
    kind, colon, number = name.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    numbered = number.isascii() and number.isdecimal() and int(number) < count
    if not present.get(kind) or (colon and not numbered):
        here = ", ".join(kind for kind, found in present.items() if found)
        numbers = f", cuda:0 to cuda:{count - 1}" if present["cuda"] and kind == "cuda" else ""
        raise NearfarError(
            f"device {name!r} is not on this machine: expected auto, {here}{numbers}"
        )
    return torch.device(kind, int(number)) if colon else torch.device(kind)


@torch.no_grad()
def apply(
    network: Callable[[Tensor], Tensor],
    images: Images,
    *,
    device: str | torch.device,
    rows: range | None = None,
    track: Track = silent,
    description: str = "encoding",
) -> Iterator[tuple[Tensor, Tensor]]:
    """Apply a network to images in order, and yield the results batch by batch.

    Parameters
    ----------
    network : callable
        Function that takes a batch of images (float[b, c, h, w], with values in [0, 1]) and returns
        a tensor with one result per image. A module must be in evaluation mode and on `device`.
    images : Images
        Images to which to apply the network.
    device : str or torch.device
        Device of the network.
    rows : range, optional
        Row numbers of the images to use. Default: all.
    track : Track
        Progress display, see `nearfar.progress.Track`.
    description : str
        Description for the progress display.

    Yields
    ------
    indices : int64[b]
        Row numbers of the images in the batch.
    results : Tensor
        Results for the batch (float32[b, …]), on `device`.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.data import images_from_array
    >>> images = images_from_array(np.zeros((300, 8, 8)))
    >>> for rows, means in apply(lambda x: x.mean((1, 2, 3)), images, device="cpu"):
    ...     print(len(rows), means.shape)
    256 torch.Size([256])
    44 torch.Size([44])
    """
    device = resolve_device(device)
    rows = range(len(images)) if rows is None else rows
    batches = sequential_batches(rows, INFERENCE_BATCH)
    for indices, pixels in track(load_batches(images, batches), description, len(batches)):
        yield indices, network(to_unit(pixels.to(device, non_blocking=True))).float()


def apply_to_all(
    network: Callable[[Tensor], Tensor],
    images: Images,
    *,
    device: str | torch.device,
    track: Track = silent,
    description: str = "encoding",
) -> Tensor:
    """Apply a network to all images, and return the results as one tensor.

    Parameters
    ----------
    network, images, device, track, description
        See `apply`.

    Returns
    -------
    Tensor
        Results for the n images (float32[n, …]), on the CPU.

    Raises
    ------
    NearfarError
        If the results do not fit in memory, or contain NaN or infinity.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.data import images_from_array
    >>> images = images_from_array(np.zeros((300, 8, 8)))
    >>> apply_to_all(nn.Flatten(), images, device="cpu").shape
    torch.Size([300, 64])
    """
    results = torch.empty(0)
    done = 0
    for _, values in apply(network, images, device=device, track=track, description=description):
        if done == 0:
            results = _allocate(len(images), *values.shape[1:])
        part = results[done : done + len(values)]
        part[:] = values.cpu()
        _check_finite(part, images, done)
        done += len(values)
    return results


@torch.no_grad()
def embedding_size(encoder: nn.Module, images: Images) -> int:
    """Return the dimension d of the embeddings of an encoder.

    Parameters
    ----------
    encoder : nn.Module
        Module in evaluation mode that takes images (float[b, c, h, w]) and returns embeddings
        (float[b, d]).
    images : Images
        At least one image. Only the first image is encoded.

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


def _check_finite(values: Tensor, images: Images, start: int) -> None:
    """Raise an error if results are NaN or infinite; `start` is the row number of the first one."""
    finite = values.reshape(len(values), -1).isfinite().all(1)
    if not finite.all():
        row = start + int(finite.logical_not().nonzero()[0])
        raise NearfarError(
            f"the network returns NaN or infinity for {images.names()[row]!r} of {images.name!r}: "
            "check its weights and the images"
        )


def _allocate(*shape: int) -> Tensor:
    """Return an uninitialized float32 tensor; raise an error if it does not fit in memory."""
    try:
        return torch.empty(shape)
    except RuntimeError as error:
        needed = readable_size(4 * math.prod(shape))
        raise NearfarError(
            f"no memory for the results of {shape[0]} images: {needed} are needed; "
            "pass fewer images"
        ) from error


def state_bytes(module: nn.Module) -> int:
    """Return the total size of the weights and buffers of a module, in bytes.

    Examples
    --------
    >>> state_bytes(nn.Linear(3, 2))
    32
    """
    return sum(tensor.nbytes for tensor in module.state_dict().values())
