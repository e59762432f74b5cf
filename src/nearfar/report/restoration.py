"""Restored images as PNG files, and a sheet that compares some restored images with originals."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from nearfar.data import write_images
from nearfar.files import atomic_path
from nearfar.report.figures import comparison_sheet, save_figure

#: Number of images on the sheet, evenly spaced over all images.
SHOWN = 12
PICTURE = "comparison.png"


def write_restored(
    folder: str | os.PathLike[str],
    names: Sequence[str],
    batches: Iterable[tuple[Tensor, Mapping[str, Tensor]]],
    *,
    sheet: bool = True,
) -> None:
    """Write restored images as PNG files, and a sheet that shows all stages of some images.

    Parameters
    ----------
    folder : Path
        Output folder, created if needed.
    names : sequence of str
        Name of each image, see `nearfar.data.write_images`.
    batches : iterable of RestoredBatch
        Row numbers and stages of the images. The last stage is the restored image. See
        `nearfar.restoration`.
    sheet : bool
        Whether to write the sheet of stages, ``comparison.png``.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.restoration import RestoredBatch
    >>> batch = RestoredBatch(torch.arange(2), {"original": torch.zeros(2, 1, 8, 8)})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_restored(Path(folder), ["a", "b"], [batch], sheet=False)
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['a.png', 'b.png']
    """
    folder = Path(folder)
    picked = torch.linspace(0, len(names) - 1, min(len(names), SHOWN)).long()
    shown: dict[str, list[Tensor]] = {}
    for rows, stages in batches:
        for stage, images in stages.items() if sheet else ():
            shown.setdefault(stage, []).append(images.cpu()[torch.isin(rows, picked)])
        (*_, restored) = stages.values()
        write_images(folder, [names[row] for row in rows.tolist()], restored)
    if not sheet:
        return
    figure = comparison_sheet({stage: torch.cat(parts).numpy() for stage, parts in shown.items()})
    with atomic_path(folder / PICTURE) as path:
        save_figure(figure, path)
