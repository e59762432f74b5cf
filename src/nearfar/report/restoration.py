"""Files of restored images, and a sheet that compares some of them with their originals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from nearfar.data import write_images
from nearfar.files import atomic_path
from nearfar.report.figures import comparison_sheet, save_figure

#: How many images the picture shows, evenly spread over all.
SHOWN = 12
PICTURE = "comparison.png"


def write_restored(
    folder: Path, names: Sequence[str], batches: Iterable[tuple[Tensor, Mapping[str, Tensor]]]
) -> None:
    """Write the last step of restoring images as PNG files, and a picture of all steps.

    Parameters
    ----------
    names : sequence of str
        What each image is called; see `nearfar.data.export.write_images`.
    batches : iterable of pairs
        Rows int64[b], and for each step by name what there is then, float[b, c, h, w] where 0…1
        is black…white.
    """
    picked = torch.linspace(0, len(names) - 1, min(len(names), SHOWN)).long()
    shown: dict[str, list[Tensor]] = {}
    for rows, steps in batches:
        for step, images in steps.items():
            shown.setdefault(step, []).append(images.cpu()[torch.isin(rows, picked)])
        (*_, restored) = steps.values()
        write_images(folder, [names[row] for row in rows.tolist()], restored)
    figure = comparison_sheet({step: torch.cat(parts).numpy() for step, parts in shown.items()})
    with atomic_path(folder / PICTURE) as path:
        save_figure(figure, path)


def psnr(images: Tensor, clean: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image, −10·log₁₀ of its mean squared error.

    Parameters
    ----------
    images, clean : Tensor
        float[b, c, h, w], where 0…1 is black…white.

    Returns
    -------
    Tensor
        Decibels, float[b]; infinite for images that are alike.
    """
    return -10 * (images - clean).square().mean((1, 2, 3)).log10()
