"""Encoding of images to embeddings, in memory or in a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from nearfar.data import Images, Subset
from nearfar.embeddings import EmbeddingParts, check_embeddings_path, write_embeddings
from nearfar.encoders import READING, Encoder, StoredEmbeddings, open_encoder
from nearfar.errors import NearfarError
from nearfar.files import ADVICE, claim_output
from nearfar.progress import Track, silent

if TYPE_CHECKING:
    from nearfar.runs import Run

Floats = npt.NDArray[np.float32]


def encode(
    encoder: Encoder | Run | str | os.PathLike[str],
    images: Images | npt.ArrayLike,
    *,
    device: str | torch.device = "auto",
    track: Track = silent,
) -> Floats:
    """Return the embeddings of images, float32[n, d].

    Parameters
    ----------
    encoder : Encoder, Run, str or path
        See `nearfar.encoders.open_encoder`. The network of the encoder is moved to `device`.
    images : Images or array
        Images to encode. For a run, `Images` must have the image shape of the run; arrays are
        resized to this shape.
    device : str or torch.device
        Device on which to encode.
    track : Track
        Progress display, see `nearfar.progress.Track`.

    Raises
    ------
    NearfarError
        If the image shape differs from the image shape of the run, or the embeddings do not fit in
        memory.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar import NRE
    >>> from nearfar.runs import read_run
    >>> photos = np.random.default_rng(0).random((20, 8, 8))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = NRE(epochs=1, clusters=2, embedding_size=4, device="cpu")
    ...     model.fit(photos).save(f"{folder}/run")
    ...     encode(read_run(Path(folder, "run")), photos, device="cpu").shape
    (20, 4)
    """
    return open_encoder(encoder).embed(images, device=device, track=track)


def encode_to(
    path: str | os.PathLike[str],
    encoder: Encoder | Run | str | os.PathLike[str],
    images: Images | npt.ArrayLike,
    *,
    rank: int = 0,
    world_size: int = 1,
    overwrite: bool = False,
    device: str | torch.device = "auto",
    track: Track = silent,
) -> bool:
    """Write the embeddings of images to a file.

    If the path ends in .parquet, it becomes a folder of parts, which Parquet readers treat as one
    table. For the columns, see `nearfar.embeddings.write_embeddings`. The parts are the same for
    any number of processes. Existing parts are kept, so an interrupted call can be repeated to
    continue.

    Parameters
    ----------
    path : str or path
        Output path, ending in .parquet or .npz.
    encoder, images, device, track
        See `encode`.
    rank, world_size : int
        Index of this process (from 0), and number of processes. Each process writes some of the
        parts.
    overwrite : bool
        Whether to replace an existing file or existing parts.

    Returns
    -------
    bool
        Whether all parts have been written, including those of other processes.

    Raises
    ------
    NearfarError
        If the embeddings already exist, existing parts are from a different encoder or different
        images, or an .npz file is requested with several processes.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.embeddings import read_embeddings
    >>> photos = np.random.default_rng(0).random((300, 32, 32, 3))
    >>> encoder = open_encoder("timm:resnet18", weights="random", size=32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "photos.parquet")
    ...     done = encode_to(path, encoder, photos, device="cpu")
    ...     table = read_embeddings(path)
    ...     done, sorted(part.name for part in path.iterdir()), table.embeddings.shape
    (True, ['part-00000-of-00002.parquet', 'part-00001-of-00002.parquet'], (300, 512))
    """
    path = Path(path)
    check_embeddings_path(path)
    encoder = open_encoder(encoder)
    if not isinstance(images, Images):
        images = encoder.open_array(images)
    if path.suffix == ".npz":
        if world_size > 1:
            raise NearfarError(f"{str(path)!r} by {world_size} processes: expected a .parquet file")
        claim_output(path, overwrite=overwrite)
        write_embeddings(path, encoder.embed(images, device=device, track=track), images)
        return True
    parts = EmbeddingParts(path, len(images))
    _claim_parts(parts, overwrite=overwrite, alone=world_size == 1)
    read = {name: list(value) for name in READING if (value := images.origin.get(name))}
    settings, names, bounds = {**encoder.settings(), **read}, images.names(), parts.bounds()
    mine = range(len(bounds) * rank // world_size, len(bounds) * (rank + 1) // world_size)
    # Check everything before hours of encoding.
    missing = []
    for part in mine:
        own = names[bounds[part].start : bounds[part].stop]
        if overwrite or not parts.is_written(part, own, settings):
            missing.append(part)
        else:  # raises an error if images have changed
            StoredEmbeddings(parts.path(part)).embed(Subset(images, np.array(bounds[part])))
    for part in track(missing, "encoding parts", len(missing)):
        some = Subset(images, np.array(bounds[part]))
        write_embeddings(parts.path(part), encoder.embed(some, device=device), some, settings)
    return parts.is_complete()


def _claim_parts(parts: EmbeddingParts, *, overwrite: bool, alone: bool) -> None:
    """Check that the parts may be written, create the folder, and remove parts of other sizes."""
    path = parts.folder
    if not overwrite and parts.others():
        raise NearfarError(
            f"{str(path)!r} holds embeddings of a different number of images: {ADVICE}"
        )
    if not overwrite and (path.is_file() or (alone and parts.is_complete())):
        raise NearfarError(f"{str(path)!r} exists already: {ADVICE}")
    if path.is_file():
        path.unlink()
    path.mkdir(parents=True, exist_ok=True)
    for other in parts.others():
        other.unlink(missing_ok=True)
