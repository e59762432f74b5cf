"""Purification of images in batches, with rejection by reconstruction error."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy.typing as npt
import torch
from torch import Tensor

from nearfar.data import Images, conform_images, write_images
from nearfar.defense.defended import device_of, rejection_threshold
from nearfar.defense.purifier import FALSE_POSITIVE_RATE, Purifier, ReconstructionScore
from nearfar.files import atomic_path
from nearfar.models import apply, apply_to_all
from nearfar.progress import Track, silent

#: Name of the error file that `write_purified` writes.
ERRORS_FILE = "suspicion.csv"


class PurifiedBatch(NamedTuple):
    """Batch of purified images.

    Attributes
    ----------
    rows : int64[b]
        Indices of the images in the image set.
    images : float[b, c, h, w]
        Purified images, with values in [0, 1].
    errors : float[b]
        Mean squared error between each image and its reconstruction.
    rejected : bool[b]
        Whether the error of each image exceeds the threshold.

    Examples
    --------
    >>> zeros = torch.zeros(2)
    >>> PurifiedBatch(torch.arange(2), torch.zeros(2, 1, 8, 8), zeros, zeros > 1).rejected
    tensor([False, False])
    """

    rows: Tensor
    images: Tensor
    errors: Tensor
    rejected: Tensor


def error_threshold(
    purifier: Purifier,
    clean: Images | npt.ArrayLike,
    false_positive_rate: float = FALSE_POSITIVE_RATE,
    *,
    track: Track = silent,
) -> float:
    """Return a rejection threshold for the reconstruction error, based on clean images.

    At most a given fraction of the clean images has a larger error.

    Parameters
    ----------
    purifier : Purifier
        Purifier on the device to use.
    clean : Images or array
        Validation images, n in number, that the purifier was not trained on.
    false_positive_rate : float
        Maximum fraction of clean images to reject, in (0, 1) and at least 1/n.
    track : Track
        Progress display. See `nearfar.progress.Track`.

    Raises
    ------
    NearfarError
        If the rate is out of range, or there are too few images for it.

    Examples
    --------
    >>> from torch import nn
    >>> from nearfar.models import Autoencoder
    >>> purifier = Purifier(Autoencoder(nn.Flatten(), nn.Unflatten(1, (1, 8, 8))), (1, 8, 8))
    >>> error_threshold(purifier, torch.rand(20, 1, 8, 8), 0.1)
    0.0
    """
    errors = apply_to_all(
        ReconstructionScore(purifier),
        conform_images(clean, purifier.shape),
        device=device_of(purifier),
        track=track,
        description="clean images",
    )
    return rejection_threshold(errors, false_positive_rate)


def purify(
    purifier: Purifier,
    images: Images | npt.ArrayLike,
    *,
    threshold: float = float("inf"),
    track: Track = silent,
) -> Iterator[PurifiedBatch]:
    """Purify images in batches. Memory use does not depend on the number of images.

    Parameters
    ----------
    purifier : Purifier
        Purifier on the device to use.
    images : Images or array
        Images of the shape that the purifier expects. Arrays are resized to that shape.
    threshold : float
        Reconstruction error above which images are rejected. See `error_threshold`.
    track : Track
        Progress display. See `nearfar.progress.Track`.

    Yields
    ------
    PurifiedBatch
        Batch of purified images, on the purifier's device.

    Raises
    ------
    NearfarError
        If the images have a different shape.

    Examples
    --------
    >>> from torch import nn
    >>> from nearfar.models import Autoencoder
    >>> purifier = Purifier(Autoencoder(nn.Flatten(), nn.Unflatten(1, (1, 8, 8))), (1, 8, 8))
    >>> [int(batch.rejected.sum()) for batch in purify(purifier, torch.rand(20, 1, 8, 8))]
    [0]
    """
    pairs = apply(
        lambda batch: torch.stack([batch, purifier(batch)], 1),
        conform_images(images, purifier.shape),
        device=device_of(purifier),
        track=track,
        description="purifying",
    )
    return (_measure(rows, pair[:, 0], pair[:, 1], threshold) for rows, pair in pairs)


def write_purified(
    folder: str | os.PathLike[str],
    names: Sequence[str],
    batches: Iterable[PurifiedBatch],
    *,
    with_rejected: bool,
) -> int:
    """Write purified images as PNG files, and reconstruction errors to ``suspicion.csv``.

    Parameters
    ----------
    folder : Path
        Folder to write to. It is created if needed.
    names : sequence of str
        Name of each image. See `nearfar.data.write_images`.
    batches : iterable of PurifiedBatch
        Batches from `purify`.
    with_rejected : bool
        Whether to write the column "rejected" to ``suspicion.csv``.

    Returns
    -------
    int
        Number of rejected images.

    Examples
    --------
    >>> import tempfile
    >>> zeros = torch.zeros(1)
    >>> batch = PurifiedBatch(torch.arange(1), torch.zeros(1, 1, 8, 8), zeros, zeros > 1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_purified(Path(folder), ["a"], [batch], with_rejected=True)
    ...     print(Path(folder, "suspicion.csv").read_text().split())
    0
    ['name,error,rejected', 'a,0,0']
    """
    folder = Path(folder)
    count = 0
    folder.mkdir(parents=True, exist_ok=True)
    with (
        atomic_path(folder / ERRORS_FILE) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.writer(file)
        table.writerow(["name", "error", *(["rejected"] if with_rejected else [])])
        for batch in batches:
            batch_names = [names[row] for row in batch.rows.tolist()]
            write_images(folder, batch_names, batch.images)
            values = zip(batch_names, batch.errors.tolist(), batch.rejected.tolist(), strict=True)
            for name, error, rejected in values:
                count += rejected
                table.writerow([name, f"{error:.6g}", *([int(rejected)] if with_rejected else [])])
    return count


def _measure(rows: Tensor, before: Tensor, after: Tensor, threshold: float) -> PurifiedBatch:
    errors = (after - before).square().flatten(1).mean(1)
    return PurifiedBatch(rows, after, errors, errors > threshold)
