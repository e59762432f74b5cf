"""Encoders by name: a run, a pretrained timm model, or a file of embeddings."""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nearfar.config import TIMM, SimilarityName
from nearfar.data import (
    Channels,
    Images,
    Size,
    StoredImages,
    Subset,
    conform_images,
    images_from_array,
)
from nearfar.embeddings import EMBEDDINGS_EXTENSIONS, image_checksums, read_embeddings
from nearfar.errors import NearfarError, reason
from nearfar.models import (
    apply_to_all,
    embedding_size,
    image_size,
    pretrained_encoder,
    resolve_device,
)
from nearfar.progress import Track, silent
from nearfar.runs import Run, read_run

__all__ = [
    "READING",
    "Encoder",
    "NetworkEncoder",
    "StoredEmbeddings",
    "open_encoder",
    "reopen_encoder",
]

#: Number of images whose content is compared with the images that were embedded.
_COMPARED = 256
#: Options of `nearfar.data.open_images` that are stored in files of embeddings.
READING = ("window", "bands")

Floats = npt.NDArray[np.float32]


class Encoder(ABC):
    """Base class of encoders, which are opened by `open_encoder`.

    Attributes
    ----------
    name : str
        Name of the encoder in tables.
    run : Run or None
        Run that the encoder comes from, if any.
    size : int or (height, width), optional
        Size at which to open images, in pixels.
    channels : {1, 3}, optional
        Number of channels with which to open images.
    embedding_size : int or None
        Length d of an embedding, if known before encoding.
    similarity : {"cosine", "centered-cosine", "gaussian"} or callable
        Similarity measure for the embeddings.
    reading : mapping
        Options `window` and `bands` of `nearfar.data.open_images` with which the images of stored
        embeddings were read. New images must be read with the same options.

    Examples
    --------
    >>> isinstance(open_encoder("timm:resnet18", weights="random"), Encoder)
    True
    """

    name: str
    run: Run | None = None
    size: Size | None = None
    channels: Channels | None = None
    embedding_size: int | None = None
    similarity: SimilarityName | Callable[..., Any] = "cosine"
    reading: Mapping[str, Any] = MappingProxyType({})

    def open_array(self, array: npt.ArrayLike) -> Images:
        """Convert an array to images of the size that the encoder expects."""
        return images_from_array(array, size=self.size)

    def settings(self) -> dict[str, Any]:
        """Return settings that identify the encoder, to store with embeddings.

        The settings are JSON-compatible. If possible, they include `encoder` and, for timm models,
        `weights`, the arguments with which `open_encoder` opens the encoder again. The others are
        `weights_sha256`, a hash of the weights; `size`; `channels`; and `similarity`.
        """
        size = list(self.size) if isinstance(self.size, tuple) else self.size
        similarity = "custom" if callable(self.similarity) else self.similarity
        return {"size": size, "channels": self.channels, "similarity": similarity}

    @abstractmethod
    def embed(
        self,
        images: Images | npt.ArrayLike,
        *,
        device: str | torch.device = "auto",
        track: Track = silent,
        description: str = "encoding",
    ) -> Floats:
        """Return the embeddings of images (float32[n, d]).

        Raises
        ------
        NearfarError
            If the encoder does not accept the images.
        """

    @abstractmethod
    def embed_queries(
        self,
        pixels: Tensor,
        rows: npt.NDArray[np.int64],
        embeddings: Floats,
        device: str | torch.device,
    ) -> Tensor:
        """Return the embeddings of queries (float32[q, d]).

        Parameters
        ----------
        pixels : Tensor
            Query images (float[q, c, h, w]) with values in [0, 1].
        rows : int64[q]
            Rows of the queries in `embeddings`, or −1 for queries that are new images.
        embeddings : float32[n, d]
            Embeddings of the images that are searched.
        """


class NetworkEncoder(Encoder):
    """Encoder that applies a network, which must normalize images itself.

    Parameters
    ----------
    name : str
        Name of the encoder in tables.
    network : nn.Module
        Module that takes images (float[b, c, h, w]) with values in [0, 1] and returns embeddings
        (float[b, d]).
    run : Run, optional
        Run that the network comes from.
    size : int or (height, width), optional
        Size at which to open images. Default: the image size of the run, if any.
    reference : mapping, optional
        Arguments `encoder` and `weights` with which `open_encoder` opens the encoder again.
        Default: the run folder.

    Examples
    --------
    >>> NetworkEncoder("pixels", nn.Flatten()).embed(np.zeros((2, 8, 8))).shape
    (2, 64)
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        *,
        run: Run | None = None,
        size: Size | None = None,
        reference: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.network, self.run, self.size = name, network, run, size
        self.reference = dict(reference or {})
        self.embedding_size = getattr(network, "embedding_size", None)
        if run is not None:
            if run.folder is not None:
                self.reference = {"encoder": str(run.folder)}
            self.embedding_size = run.embeddings.shape[1]
            self.channels = 3 if run.config.data.shape[0] == 3 else 1
            self.size = run.config.data.shape[1:]
            self.similarity = run.config.train.similarity

    def settings(self) -> dict[str, Any]:
        """See `Encoder`."""
        weights = sha256()
        for name, tensor in self.network.state_dict().items():
            weights.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return {**self.reference, "weights_sha256": weights.hexdigest(), **super().settings()}

    def embed(
        self,
        images: Images | npt.ArrayLike,
        *,
        device: str | torch.device = "auto",
        track: Track = silent,
        description: str = "encoding",
    ) -> Floats:
        """See `Encoder`."""
        images = images if isinstance(images, Images) else self.open_array(images)
        target = resolve_device(device)
        network = self.network.to(target).eval()
        if self.run is None:
            self._check(images)
        else:
            conform_images(images, self.run.config.data.shape)
        return apply_to_all(
            network, images, device=target, track=track, description=description
        ).numpy()

    def open_array(self, array: npt.ArrayLike) -> Images:
        """See `Encoder`."""
        if self.run is None:
            return super().open_array(array)
        return conform_images(array, self.run.config.data.shape)

    def embed_queries(
        self,
        pixels: Tensor,
        rows: npt.NDArray[np.int64],
        embeddings: Floats,
        device: str | torch.device,
    ) -> Tensor:
        """See `Encoder`."""
        target = resolve_device(device)
        with torch.no_grad():
            return self.network.to(target)(pixels.to(target)).float().cpu()

    def _check(self, images: Images) -> None:
        """Check that the network accepts the images."""
        try:
            embedding_size(self.network, images)
        except (RuntimeError, AssertionError, ValueError) as error:
            _, height, width = images.shape
            raise NearfarError(
                f"{self.name} does not accept images of {height}x{width} pixels ({reason(error)}): "
                f"expected another size, such as {self.size}"
            ) from error


class StoredEmbeddings(Encoder):
    """Encoder that looks up stored embeddings by image name.

    Embeddings are stored by ``nearfar encode``. New images, such as queries, are embedded by the
    encoder named in the .parquet file.

    Parameters
    ----------
    path : str or path
        An .npz or .parquet file, or a folder of .parquet files.

    Raises
    ------
    NearfarError
        If the file does not contain embeddings.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.embeddings import write_embeddings
    >>> images = images_from_array(np.zeros((3, 8, 8)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_embeddings(f"{folder}/e.npz", np.ones((3, 4), np.float32), images)
    ...     StoredEmbeddings(f"{folder}/e.npz").embed(images).shape
    (3, 4)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = str(path)
        self.table = read_embeddings(path)
        self.embeddings = self.table.embeddings
        self.embedding_size = self.embeddings.shape[1]
        self.rows = {name: row for row, name in enumerate(self.table.names)}
        stored = self.table.settings
        self.name = self.path
        if made_by := stored.get("encoder"):
            self.name = f"{_title(made_by, stored.get('weights'))}, from {self.path}"
        self.size = _size(stored)
        self.channels = stored.get("channels")
        if stored.get("similarity") in get_args(SimilarityName):
            self.similarity = stored["similarity"]
        self.reading = _reading(stored)
        parts = list(Path(path).glob("[!.]*.parquet")) or [Path(path)]
        self.written = min(part.stat().st_mtime for part in parts)

    def settings(self) -> dict[str, Any]:
        """See `Encoder`."""
        return dict(self.table.settings)

    def embed(
        self,
        images: Images | npt.ArrayLike,
        *,
        device: str | torch.device = "auto",
        track: Track = silent,
        description: str = "encoding",
    ) -> Floats:
        """See `Encoder`."""
        images = images if isinstance(images, Images) else self.open_array(images)
        names = images.names()
        for name in names:
            if name not in self.rows:
                raise NearfarError(
                    f"{self.path!r} has no embedding of {name!r} of {images.name!r}: expected the "
                    "images that were encoded, opened from the same folder or file"
                )
        rows = [self.rows[name] for name in names]
        self._check_unchanged(images, rows)
        return self.embeddings[rows]

    def _check_unchanged(self, images: Images, rows: Sequence[int]) -> None:
        """Check that images have the sizes and checksums that are stored with their embeddings.

        Checksums are compared for an evenly spaced sample, and for all files that are newer than
        the embeddings.
        """
        files, places = images, torch.arange(len(images))
        while isinstance(files, Subset):
            places, files = files.rows[places], files.images
        if not isinstance(files, StoredImages):
            return
        paths = [files.items[place].path for place in places.tolist()]
        newer = [at for at, path in enumerate(paths) if path and _time(path) > self.written]
        if newer and self.table.checksums is None:
            warnings.warn(
                f"{images.names()[newer[0]]!r} is newer than its embedding in {self.path!r}, which "
                "has no checksums: encode the images again if it was changed",
                stacklevel=4,
            )
        changed = np.zeros(len(images), bool)
        if self.table.sizes is not None:
            changed = (self.table.sizes[list(rows)] != images.sizes(range(len(images)))).any(1)
        if self.table.checksums is not None and not changed.any():
            spread = np.linspace(0, len(images) - 1, _COMPARED).astype(int)
            some = np.union1d(spread, np.array(newer, int)).tolist()
            found = zip(some, image_checksums(images, some), strict=True)
            changed[[at for at, each in found if each != self.table.checksums[rows[at]]]] = True
        if changed.any():
            raise NearfarError(
                f"{self.path!r} has the embedding of another image named "
                f"{images.names()[int(changed.argmax())]!r} than {images.name!r} has now: encode "
                "the images again"
            )

    def embed_queries(
        self,
        pixels: Tensor,
        rows: npt.NDArray[np.int64],
        embeddings: Floats,
        device: str | torch.device,
    ) -> Tensor:
        """See `Encoder`."""
        found = torch.from_numpy(embeddings[rows])
        if len(others := np.flatnonzero(rows < 0)):
            encoder = reopen_encoder(self.table.settings, self.path)
            found[others] = encoder.embed_queries(pixels[others], rows[others], embeddings, device)
        return found


def open_encoder(
    encoder: Encoder | Run | str | os.PathLike[str],
    *,
    weights: str | None = None,
    size: Size | None = None,
) -> Encoder:
    """Open an encoder.

    Parameters
    ----------
    encoder : Encoder, Run, str or path
        A run or its folder; "timm:NAME"; or an .npz or .parquet file of embeddings, from
        `nearfar.embeddings.write_embeddings`.
    weights : str, optional
        Weights of a timm model: "pretrained", "random" or a file. See
        `nearfar.models.load_pretrained`. Default: "pretrained".
    size : int or (height, width), optional
        Size at which to open images, for a timm model. Default: the input size of the model's
        pretrained weights.

    Raises
    ------
    NearfarError
        If there is no such encoder, or `weights` or `size` is given for an encoder that is not a
        timm model.

    Examples
    --------
    >>> open_encoder("timm:resnet18", weights="random", size=64).embed(np.zeros((2, 64, 64))).shape
    (2, 512)
    """
    if isinstance(encoder, Encoder):
        return encoder
    text = "the run" if isinstance(encoder, Run) else os.fspath(encoder)
    if text.startswith(TIMM):
        weights = weights or "pretrained"
        if weights == "kmeans":
            raise NearfarError(
                f"weights='kmeans' for {text} without training: expected pretrained, random or a "
                "file"
            )
        return NetworkEncoder(
            _title(text, weights),
            pretrained_encoder(text, weights),
            size=size or image_size(text),
            reference={"encoder": text, "weights": weights},
        )
    for option, value in (("weights", weights), ("size", size)):
        if value is not None:
            raise NearfarError(
                f"{option}={value!r} for {text!r}, which has its own: expected it with {TIMM}NAME"
            )
    if not isinstance(encoder, Run):
        path = Path(encoder)
        if path.suffix in EMBEDDINGS_EXTENSIONS and (path.is_file() or path.suffix == ".parquet"):
            return StoredEmbeddings(path)
        encoder = read_run(path)
    return NetworkEncoder(encoder.method, encoder.network.encoder, run=encoder)


def reopen_encoder(settings: Mapping[str, Any], source: str) -> Encoder:
    """Open the encoder that computed stored embeddings.

    Parameters
    ----------
    settings : mapping
        Settings of the encoder, as stored in the file of embeddings. See `Encoder.settings`.
    source : str
        Name of the file, for error messages.

    Raises
    ------
    NearfarError
        If the settings do not name the encoder, if it cannot be opened, or if its weights have
        changed.

    Examples
    --------
    >>> encoder = open_encoder("timm:tf_efficientnet_lite0")
    >>> reopen_encoder(encoder.settings(), "photos.parquet").name
    'timm:tf_efficientnet_lite0'
    """
    if not settings.get("encoder"):
        raise NearfarError(
            f"{source!r} holds embeddings without their encoder: expected queries that are among "
            "the images"
        )
    timm = settings["encoder"].startswith(TIMM)
    encoder = open_encoder(
        settings["encoder"],
        weights=settings.get("weights") if timm else None,
        size=_size(settings) if timm else None,
    )
    if encoder.settings().get("weights_sha256") != settings.get("weights_sha256"):
        raise NearfarError(
            f"{settings['encoder']!r} has different weights than when it wrote {source!r}: encode "
            "the images again"
        )
    encoder.reading = _reading(settings)
    return encoder


def _reading(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with which the images of stored embeddings were read."""
    return {name: tuple(settings[name]) for name in READING if settings.get(name)}


def _time(path: Path) -> float:
    """Return the modification time of a file, or 0 if the file is missing."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0


def _title(encoder: str, weights: str | None) -> str:
    return encoder if weights in (None, "pretrained") else f"{encoder} ({weights})"


def _size(settings: Mapping[str, Any]) -> Size | None:
    size = settings.get("size")
    return tuple(size) if isinstance(size, list) else size
