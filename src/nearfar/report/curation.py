"""HTML page with the findings of a curation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn.functional import interpolate

from nearfar.curation import (
    DEVIATIONS,
    NEAR_DUPLICATE,
    Curation,
    Duplicates,
    LabelErrors,
    Outliers,
    class_name,
)
from nearfar.data import Images, Subset, to_unit
from nearfar.progress import Track, silent, tracked
from nearfar.report.browse import MAX_BROWSED, MIN_MAP_IMAGES, map_images
from nearfar.report.html import THUMBNAIL, Section, Strip, write_report

_PAGE = "curation.html"

#: Most groups and images per section; the Parquet files list all of them.
_GROUPS, _PER_GROUP, _IMAGES, _PER_CLUSTER = 60, 12, 96, 8
#: Category of images without a finding, drawn in gray.
_FINE = "none"


def write_curation_page(
    folder: str | os.PathLike[str], curation: Curation, *, track: Track = silent
) -> Path:
    """Write the findings of a curation as an HTML page.

    The page contains an interactive map, thumbnails and file names.

    Parameters
    ----------
    folder : str or path
        Output folder, created if needed.
    curation : Curation
        Findings to report.
    track : Track
        Progress display, see `nearfar.progress.Track`.

    Returns
    -------
    Path
        Path of the page.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.curation import curate
    >>> from nearfar.data import images_from_array
    >>> curation = curate(images_from_array(np.random.default_rng(0).random((40, 32, 32))))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_curation_page(folder, curation).name
    'curation.html'
    """
    images = curation.images
    return write_report(
        folder,
        title=f"Curation of {images.name}",
        lead=f"{len(images)} images{_skipped(images)}, with embeddings by {curation.encoder}. No "
        "file was changed.",
        sections=list(_sections(curation, track)),
        name=_PAGE,
        track=track,
    )


def _skipped(images: Images) -> str:
    count = len(images.skipped)
    return f" ({count} more could not be read)" if count else ""


def _sections(curation: Curation, track: Track) -> Iterator[Section]:
    yield tracked(track, "drawing the map", lambda: _map(curation))
    yield _duplicates(curation)
    if curation.leaks is not None and curation.against is not None:
        yield _leaks(curation.leaks, curation.images, curation.against)
    yield _label_errors(curation)
    yield _outliers(curation)
    yield _clusters(curation)
    if curation.selected is not None:
        rows = curation.selected[:_IMAGES]
        yield Section(
            "Selected images",
            f"{len(curation.selected)} representative images: each is nearest to the "
            "center of a different cluster. The largest clusters come first"
            f"{_of(len(rows), len(curation.selected))}.",
            [_strip("", curation.images, rows, lambda row: "")],
        )


def _map(curation: Curation) -> Section:
    images, n = curation.images, len(curation.images)
    if n < MIN_MAP_IMAGES:
        return Section("Images", f"No map: at least {MIN_MAP_IMAGES} images are needed.")
    columns = _columns(curation)
    first = np.random.default_rng(0).permutation(n)
    first = first[np.argsort(columns["finding"][first] == _FINE, kind="stable")]
    rows = np.sort(first[:MAX_BROWSED])
    return Section(
        "Images",
        f"Similar images lie together{_some(len(rows), n)}. Clusters come from k-means on the "
        "embeddings. Click an image below to find it on the map.",
        map_images(
            Subset(images, rows),
            curation.embeddings[rows],
            columns={name: values[rows] for name, values in columns.items()},
        ),
    )


def _columns(curation: Curation) -> dict[str, npt.NDArray[Any]]:
    """Return the finding, the cluster and the scores of each image, as columns of an `ImageMap`."""
    n, kept = len(curation.images), curation.kept
    finding = np.full(n, _FINE, object)
    scores: dict[str, npt.NDArray[Any]] = {}
    if isinstance(curation.outliers, Outliers):
        finding[kept[curation.outliers.rows()]] = "outlier"
        scores["outlier deviations"] = _of_kept(curation.outliers.deviations, kept, n)
    if isinstance(curation.label_errors, LabelErrors):
        finding[kept[curation.label_errors.rows()]] = "likely label error"
        scores["confidence of the label"] = _of_kept(curation.label_errors.confidence, kept, n)
    if curation.leaks is not None:
        finding[curation.leaks.pairs[:, 0]] = "leak"
    finding[curation.keep & (curation.group >= 0)] = "duplicate to keep"
    finding[~curation.keep] = "duplicate to leave out"
    clusters = [f"cluster {number}" for number in curation.cluster_of]
    return {"finding": finding, "cluster": np.array(clusters, object), **scores}


def _of_kept(
    values: npt.NDArray[np.float32], kept: npt.NDArray[np.int64], n: int
) -> npt.NDArray[np.float32]:
    column = np.full(n, np.nan, np.float32)
    column[kept] = values
    return column


def _duplicates(curation: Curation) -> Section:
    images, group, found = curation.images, curation.group, curation.duplicates
    total = int(group.max(initial=-1)) + 1
    if not total:
        nothing = f"There are no exact or near duplicates.{_mirrored(curation)}"
        return Section("Duplicates", nothing)
    best = np.zeros(len(images))
    for pair, score in zip(found.pairs, found.scores, strict=True):
        best[pair] = np.maximum(best[pair], score)
    exact = np.isin(np.arange(len(images)), found.pairs[found.exact])

    def caption(row: int) -> str:
        kind = "exact" if exact[row] else f"near {best[row]:.2f}"
        return f"{'keep' if curation.keep[row] else 'leave out'}, {kind}"

    strips = []
    for number in range(min(total, _GROUPS)):
        rows = np.flatnonzero(group == number)
        rows = rows[np.argsort(~curation.keep[rows], kind="stable")]
        title = f"Group {number}: {len(rows)} images"
        strips.append(_strip(title, images, rows[:_PER_GROUP], caption))
    return Section(
        "Duplicates",
        f"Groups: {total}{_of(len(strips), total)}. Images that can be left out: "
        f"{int((~curation.keep).sum())}. The pixels of exact duplicates are equal. Near "
        "duplicates agree tile by tile after alignment: 1 for copies, about 0 for different "
        f"images, threshold {NEAR_DUPLICATE}. The image with the most pixels is kept."
        + _mirrored(curation),
        strips,
    )


def _mirrored(curation: Curation) -> str:
    found, looked_at = curation.mirrored or (0, 0)
    if not found:
        return ""
    return (
        f" Of {looked_at} images checked, {found} are mirror images of other images. They count as "
        "duplicates only with --mirrored."
    )


def _leaks(leaks: Duplicates, images: Images, against: Images) -> Section:
    text = f"images that duplicate images in {against.name}"
    if not len(leaks.pairs):
        return Section("Leaks", f"There are no {text}.")
    names, others = images.names(), against.names()
    order = np.argsort(-leaks.scores, kind="stable")[: _IMAGES // 2]
    strips = [
        Strip(
            f"{leaks.scores[k]:.2f}{' (exact)' if leaks.exact[k] else ''}",
            [*_whole(images, [a]), *_whole(against, [b])],
            [names[a], f"{against.name}:\n{others[b]}"],
        )
        for k, (a, b) in zip(order, leaks.pairs[order].tolist(), strict=True)
    ]
    shown = _of(len(strips), len(leaks.pairs))
    explained = f"These are {text}: remove them from one of the two sets."
    return Section("Leaks", f"Pairs: {len(leaks.pairs)}{shown}. {explained}", strips)


def _label_errors(curation: Curation) -> Section:
    title, errors, images = "Likely label errors", curation.label_errors, curation.images
    if not isinstance(errors, LabelErrors) or images.labels is None:
        return Section(title, f"Not looked for ({errors}).")
    labels, rows = images.labels, errors.rows()
    position = {int(row): place for place, row in enumerate(curation.kept)}

    def caption(row: int) -> str:
        place = position[row]
        label, other = labels[row], errors.suggested[place]
        return (
            f"{class_name(images, label)} → {class_name(images, other)}, "
            f"{errors.confidence[place]:.2f}"
        )

    shown = curation.kept[rows[:_IMAGES]]
    return Section(
        title,
        f"{len(rows)} images for which another label is as probable as it usually is for images of "
        f"that class{_of(len(shown), len(rows))}. The number is the probability of the given "
        "label, predicted by classifiers that were not trained on the image. Low values indicate "
        "wrong labels. "
        f"The embeddings predict {errors.accuracy:.1%} of the labels.",
        [_strip("", images, shown, caption)],
    )


def _outliers(curation: Curation) -> Section:
    outliers = curation.outliers
    if not isinstance(outliers, Outliers):
        return Section("Outliers", f"Not looked for ({outliers}).")
    rows = outliers.rows()
    if not len(rows):
        return Section(
            "Outliers",
            "No image is unusually far from its five nearest images (by more than "
            f"{DEVIATIONS} robust standard deviations of the log distance).",
        )
    captions = {
        int(curation.kept[row]): f"{outliers.deviations[row]:.1f} deviations" for row in rows
    }
    shown = curation.kept[rows[:_IMAGES]]
    return Section(
        "Outliers",
        f"{len(rows)} images that are far from their five nearest images"
        f"{_of(len(shown), len(rows))}. The number is the log distance in robust standard "
        f"deviations from the median (threshold: {DEVIATIONS}).",
        [_strip("", curation.images, shown, captions.__getitem__)],
    )


def _clusters(curation: Curation) -> Section:
    strips = []
    for number, typical in enumerate(curation.typical):
        members = np.flatnonzero(curation.cluster_of == number)
        others = members[members != typical]
        count = min(len(others), _PER_CLUSTER - 1)
        some = others[np.linspace(0, len(others) - 1, count).astype(int)]
        rows = np.concatenate([[typical], some])
        title = f"Cluster {number}: {len(members)} images"
        strips.append(
            _strip(
                title,
                curation.images,
                rows,
                {int(typical): "typical"}.get,
            )
        )
    return Section("Clusters", "A typical image and some other images of each cluster.", strips)


def _strip(
    title: str, images: Images, rows: Iterable[int], caption: Callable[[int], str | None]
) -> Strip:
    names, rows = images.names(), [int(row) for row in rows]
    captions = [f"{names[row]}\n{caption(row) or ''}".rstrip() for row in rows]
    return Strip(title, _whole(images, rows), captions)


def _whole(images: Images, rows: Sequence[int]) -> list[Tensor]:
    """Return images uncropped, with the original aspect ratio and sides of at most 96 pixels."""
    squares = to_unit(images.uncropped(THUMBNAIL).batch(rows))
    sizes = images.sizes(rows)
    sizes = np.ceil(sizes * np.minimum(1, THUMBNAIL / sizes.max(1, keepdims=True))).astype(int)
    return [
        interpolate(square.unsqueeze(0), size=size, mode="bilinear", antialias=True)[0]
        for square, size in zip(squares, sizes.tolist(), strict=True)
    ]


def _some(shown: int, total: int) -> str:
    return "" if shown == total else f" ({shown} of {total}: all findings, and others at random)"


def _of(shown: int, total: int) -> str:
    return "" if shown == total else f" (the first {shown} are shown)"
