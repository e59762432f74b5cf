"""Embeddings and pictures for other programs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from nearfar.data.images import Images
from nearfar.errors import NearfarError, require
from nearfar.files import atomic_path, fitting_name

TABLES = (".npz", ".parquet")


def check_embeddings_path(path: Path) -> None:
    """Check that embeddings can be written in the format that a path asks for.

    Raises
    ------
    NearfarError
        If its ending is another, or the package that writes the format is not installed.
    """
    if path.suffix not in TABLES:
        raise NearfarError(f"{str(path)!r}: expected a name that ends in {' or '.join(TABLES)}")
    if path.suffix == ".parquet":
        require("pyarrow.parquet", extra="parquet")


def write_embeddings(path: Path, embeddings: npt.NDArray[np.float32], images: Images) -> None:
    """Write embeddings, float32[n, d], with the names of the images, and labels and classes if any.

    An .npz has arrays `embeddings`, `names`, `labels`, `classes`; a .parquet has the columns
    `name`, `label` (the name of the class) and `embedding` (a list of d floats).
    """
    with atomic_path(path) as temporary:
        if path.suffix == ".npz":
            arrays: dict[str, Any] = {"embeddings": embeddings, "names": np.array(images.names())}
            if images.labels is not None:
                arrays["labels"] = images.labels
            if images.classes is not None:
                arrays["classes"] = np.array(images.classes)
            with temporary.open("wb") as file:
                np.savez(file, **arrays)
        else:
            _write_parquet(temporary, embeddings, images)


def _write_parquet(path: Path, embeddings: npt.NDArray[np.float32], images: Images) -> None:
    import pyarrow
    from pyarrow import parquet

    flat = pyarrow.array(embeddings.reshape(-1))
    columns = {
        "name": pyarrow.array(images.names()),
        "embedding": pyarrow.FixedSizeListArray.from_arrays(flat, embeddings.shape[1]),
    }
    if images.labels is not None:
        labels = images.labels.tolist()
        named = labels if images.classes is None else [images.classes[label] for label in labels]
        columns["label"] = pyarrow.array(named)
    parquet.write_table(pyarrow.table(columns), path)


def write_images(folder: Path, names: Iterable[str], images: Tensor) -> None:
    """Write images, float[n, c, h, w] where 0…1 is black…white, as PNG files.

    Each name may have folders in it; ``.png`` is added, so that a.jpg and a.gif do not collide.
    Names that are too long for a file are cut.
    """
    pixels = images.clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    for name, picture in zip(names, pixels, strict=True):
        *folders, file = (fitting_name(part, "") for part in Path(name).parts)
        path = folder.joinpath(*folders, fitting_name(file, ".png"))
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture).save(
                temporary, format="PNG"
            )
