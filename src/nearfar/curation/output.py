"""Curation findings in machine-readable files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import torch
from pyarrow import parquet

from nearfar.curation.curate import Curation
from nearfar.curation.duplicates import Duplicates
from nearfar.curation.labels import LabelErrors
from nearfar.curation.outliers import Outliers
from nearfar.curation.thumbnails import (
    THUMBNAILS,
    CuratedImages,
    Thumbnails,
    write_thumbnails,
)
from nearfar.data import Images
from nearfar.files import atomic_path, write_json

#: File names in the output folder of `nearfar curate`.
CURATED, DUPLICATES, LEAKS, LEAVE_OUT, SUMMARY = (
    "images.parquet",
    "duplicates.parquet",
    "leaks.parquet",
    "leave-out.txt",
    "curation.json",
)


def write_curation(folder: str | os.PathLike[str], curation: Curation) -> dict[str, Any]:
    """Write the findings to a folder, and return a summary of the findings.

    ``images.parquet`` has one row per image, with these columns: `file`; `keep`, which is false for
    images to leave out, and `reason`; `group`, the group of duplicates; `outlier_distance` and
    `outlier_deviations` (see `Outliers`); `label`, `suggested_label`, `label_likely_wrong` and
    `label_confidence` (see `LabelErrors`); `cluster`; `typical`, whether the image is the most
    typical of the cluster; and `selected`, the rank in the selection, from 1. Null means unknown.

    ``leave-out.txt`` lists the images to leave out. ``thumbnails.parquet`` contains thumbnails for
    later comparisons. See `CuratedImages`. If the images were compared with those of an earlier
    curation, the thumbnails of both are included. ``duplicates.parquet`` and ``leaks.parquet`` have
    one row per pair, with the columns `file`, `other`, `score`, `exact` and `mirrored`.
    ``curation.json`` contains a summary of each finding, or the reason why there is none.

    Parameters
    ----------
    folder : str or path
        Output folder. It is created if needed, and existing files are replaced.
    curation : Curation
        Findings to write.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.curation import curate
    >>> from nearfar.data import images_from_array
    >>> images = images_from_array(np.random.default_rng(0).random((40, 32, 32)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     summary = write_curation(folder, curate(images, device="cpu"))
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['curation.json', 'duplicates.parquet', 'images.parquet', 'leave-out.txt', 'thumbnails.parquet']
    >>> summary["images"], summary["duplicates"]["groups"]
    (40, 0)
    """
    folder, images = Path(folder), curation.images
    names = images.names()
    _write(folder / CURATED, _image_table(curation))
    _write(folder / DUPLICATES, _pair_table(curation.duplicates, names, names))
    if curation.leaks is not None and curation.against is not None:
        _write(folder / LEAKS, _pair_table(curation.leaks, names, curation.against.names()))
    if isinstance(curation.against, CuratedImages):
        earlier = curation.against
        both = zip(curation.thumbnails, earlier.thumbnails, strict=True)
        write_thumbnails(
            folder / THUMBNAILS, names + earlier.names(), Thumbnails(*map(torch.cat, both))
        )
    else:
        write_thumbnails(folder / THUMBNAILS, names, curation.thumbnails)
    with atomic_path(folder / LEAVE_OUT) as temporary:
        out = [names[row] for row in np.flatnonzero(~curation.keep)]
        temporary.write_text("".join(f"{name}\n" for name in out), encoding="utf-8")
    summary = summarize(curation)
    write_json(folder / SUMMARY, summary)
    return summary


def summarize(curation: Curation) -> dict[str, Any]:
    """Return a summary of all findings as a JSON-compatible dictionary."""
    outliers, errors, leaks = curation.outliers, curation.label_errors, curation.leaks
    exact = curation.duplicates.exact
    return {
        "data": curation.images.name,
        "images": len(curation.images),
        "skipped": len(curation.images.skipped),
        "encoder": curation.encoder,
        "duplicates": {
            "groups": int(curation.group.max(initial=-1)) + 1,
            "images_to_leave_out": int((~curation.keep).sum()),
            "exact_pairs": int(exact.sum()),
            "near_pairs": int((~exact).sum()),
        },
        "mirror_images": None
        if curation.mirrored is None
        else dict(zip(("found", "looked_at"), curation.mirrored, strict=True)),
        "outliers": outliers if isinstance(outliers, str) else len(outliers.rows()),
        "label_errors": errors
        if isinstance(errors, str)
        else {"images": len(errors.rows()), "accuracy": round(errors.accuracy, 4)},
        "leaks": None
        if leaks is None or curation.against is None
        else {"against": curation.against.name, "pairs": len(leaks.pairs)},
        "clusters": len(curation.typical),
        "selected": None if curation.selected is None else len(curation.selected),
    }


def describe(curation: Curation) -> list[str]:
    r"""Return a summary of all findings as lines of text.

    Examples
    --------
    >>> from nearfar.curation import curate
    >>> from nearfar.data import images_from_array
    >>> images = images_from_array(np.random.default_rng(0).random((9, 32, 32)))
    >>> print(*describe(curate(images)), sep="\n")
    9 images, encoder timm:tf_efficientnet_lite0
    duplicates: 0 groups, 0 images to leave out
    label errors: not looked for (no classes: expected a folder for each)
    outliers: not looked for (only 9 images: expected at least 30 to find outliers)
    clusters: 2
    """
    found = summarize(curation)
    duplicates, errors, outliers = (
        found[kind] for kind in ("duplicates", "label_errors", "outliers")
    )
    lines = [
        f"{found['images']} images, encoder {found['encoder']}",
        f"duplicates: {_count(duplicates['groups'], 'group')}, "
        f"{_count(duplicates['images_to_leave_out'], 'image')} to leave out",
    ]
    if curation.mirrored is not None and curation.mirrored[0]:
        lines.append(
            "mirror images: {} of {} images looked at have one; --mirrored lists them".format(
                *curation.mirrored
            )
        )
    if found["leaks"] is not None:
        leaks = found["leaks"]
        lines.append(f"leaks: {_count(leaks['pairs'], 'pair')} with images of {leaks['against']}")
    lines += [
        f"label errors: {_not_found(errors) if isinstance(errors, str) else errors['images']}",
        f"outliers: {_not_found(outliers) if isinstance(outliers, str) else outliers}",
        f"clusters: {found['clusters']}",
    ]
    return lines if found["selected"] is None else [*lines, f"selected: {found['selected']}"]


def _not_found(reason: str) -> str:
    return f"not looked for ({reason})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _write(path: Path, table: pyarrow.Table) -> None:
    with atomic_path(path) as temporary:
        parquet.write_table(table, temporary)


def _pair_table(found: Duplicates, names: list[str], others: list[str]) -> pyarrow.Table:
    return pyarrow.table(
        {
            "file": pyarrow.array([names[row] for row in found.pairs[:, 0]], pyarrow.string()),
            "other": pyarrow.array([others[row] for row in found.pairs[:, 1]], pyarrow.string()),
            "score": found.scores.astype(np.float32),
            "exact": found.exact,
            "mirrored": found.mirrored,
        }
    )


def _image_table(curation: Curation) -> pyarrow.Table:
    images, kept, n = curation.images, curation.kept, len(curation.images)
    names, group = images.names(), curation.group
    keeper = {group[row]: names[row] for row in kept if group[row] >= 0}
    columns: dict[str, Any] = {
        "file": names,
        "keep": curation.keep,
        "reason": pyarrow.array(
            [
                None if keep else f"duplicate of {keeper[each]}"
                for keep, each in zip(curation.keep, group.tolist(), strict=True)
            ],
            pyarrow.string(),
        ),
        "group": pyarrow.array(group, mask=group < 0),
    }
    outliers = curation.outliers
    if isinstance(outliers, Outliers):
        columns["outlier_distance"] = _of_kept(outliers.distances, kept, n)
        columns["outlier_deviations"] = _of_kept(outliers.deviations, kept, n)
    if images.labels is not None:
        columns["label"] = [class_name(images, label) for label in images.labels]
    errors = curation.label_errors
    if isinstance(errors, LabelErrors):
        suggested = np.array([class_name(images, label) for label in errors.suggested], object)
        columns["suggested_label"] = _of_kept(suggested, kept, n)
        columns["label_likely_wrong"] = _of_kept(errors.likely, kept, n)
        columns["label_confidence"] = _of_kept(errors.confidence, kept, n)
    columns["cluster"] = curation.cluster_of
    columns["typical"] = np.isin(np.arange(n), curation.typical)
    if curation.selected is not None:
        rank = np.zeros(n, np.int64)
        rank[curation.selected] = np.arange(1, len(curation.selected) + 1)
        columns["selected"] = pyarrow.array(rank, mask=rank == 0)
    return pyarrow.table(columns)


def class_name(images: Images, label: int) -> str:
    """Return the name of a class, or its number if the class has no name.

    Examples
    --------
    >>> from nearfar.data import images_from_array
    >>> class_name(images_from_array(np.random.rand(2, 8, 8), labels=["cat", "dog"]), 1)
    'dog'
    """
    return str(label) if images.classes is None else images.classes[label]


def _of_kept(values: Any, kept: Any, n: int) -> pyarrow.Array:
    """Return a column with the values of the kept images. It is null for all other images."""
    column = np.empty(n, values.dtype)
    column[kept] = values
    mask = np.ones(n, bool)
    mask[kept] = False
    return pyarrow.array(column, mask=mask)
