"""Export of images as files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from PIL import Image
from torch import Tensor

from nearfar.files import atomic_path, fitting_name


def write_images(folder: str | os.PathLike[str], names: Iterable[str], images: Tensor) -> None:
    """Write images as PNG files.

    Parameters
    ----------
    folder : str or path
        Folder to write to; subfolders are created as needed.
    names : iterable of str
        Relative path of each image. ``.png`` is appended, so that a.jpg and a.gif do not collide.
        Names that are too long are shortened.
    images : Tensor
        float[n, c, h, w], with values in [0, 1].

    Examples
    --------
    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_images(folder, ["cats/1.jpg"], torch.rand(1, 3, 8, 8))
    ...     Path(folder, "cats/1.jpg.png").is_file()
    True
    """
    pixels = images.clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    for name, picture in zip(names, pixels, strict=True):
        *folders, file = (fitting_name(part, "") for part in Path(name).parts)
        path = Path(folder).joinpath(*folders, fitting_name(file, ".png"))
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture).save(
                temporary, format="PNG"
            )
