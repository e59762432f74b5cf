"""Embeddings and images as files for other programs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from nearfar.data.images import Images
from nearfar.errors import NearfarError, reason, require
from nearfar.files import atomic_path, fitting_name

EMBEDDINGS_ENDINGS = (".npz", ".parquet")


def check_embeddings_path(path: str | os.PathLike[str]) -> None:
    """Check that the format of a path is supported by `write_embeddings`.

    Raises
    ------
    NearfarError
        If the path ends in neither .npz nor .parquet, or pyarrow is not installed for the latter.

    Examples
    --------
    >>> check_embeddings_path("embeddings.csv")
    Traceback (most recent call last):
    nearfar.errors.NearfarError: 'embeddings.csv': expected a name that ends in .npz or .parquet
    """
    path = Path(path)
    if path.suffix not in EMBEDDINGS_ENDINGS:
        raise NearfarError(
            f"{str(path)!r}: expected a name that ends in {' or '.join(EMBEDDINGS_ENDINGS)}"
        )
    if path.suffix == ".parquet":
        require("pyarrow.parquet", extra="parquet")


def write_embeddings(
    path: str | os.PathLike[str], embeddings: npt.NDArray[np.float32], images: Images
) -> None:
    """Write embeddings with the names of their images, and labels and classes if known.

    Parameters
    ----------
    path : str or path
        An .npz file gets arrays `embeddings`, `names`, `labels` and `classes`. A .parquet file
        gets columns `name`, `label` (name of the class) and `embedding` (list of d floats).
    embeddings : float32[n, d]
        Embeddings, in the order of the images.
    images : Images
        Images of the embeddings.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.data import images_from_array
    >>> images = images_from_array(np.zeros((2, 8, 8)), labels=["cat", "dog"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_embeddings(f"{folder}/e.npz", np.zeros((2, 4), np.float32), images)
    ...     sorted(np.load(f"{folder}/e.npz"))
    ['classes', 'embeddings', 'labels', 'names']
    """
    path = Path(path)
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
        names = labels if images.classes is None else [images.classes[label] for label in labels]
        columns["label"] = pyarrow.array(names)
    parquet.write_table(pyarrow.table(columns), path)


def read_embeddings(path: str | os.PathLike[str]) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Read a file of `write_embeddings`.

    Returns
    -------
    embeddings : float32[n, d]
        The embeddings.
    names : list of str
        Name of the image of each.

    Raises
    ------
    NearfarError
        If the file is not one of embeddings, holds NaN or a name twice, or pyarrow is not installed
        for a .parquet file.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.data import images_from_array
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/e.npz"
    ...     images = images_from_array(np.zeros((2, 8, 8)))
    ...     write_embeddings(path, np.ones((2, 1), np.float32), images)
    ...     read_embeddings(path)
    (array([[1.],
           [1.]], dtype=float32), ['0', '1'])
    """
    path = Path(path)
    check_embeddings_path(path)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                embeddings, names = arrays["embeddings"], [str(name) for name in arrays["names"]]
        else:
            from pyarrow import parquet

            table = parquet.read_table(path, columns=["name", "embedding"])
            names = [str(name) for name in table["name"].to_pylist()]
            column = table["embedding"].combine_chunks()
            embeddings = column.flatten().to_numpy().reshape(len(names), -1)
    except Exception as error:  # NumPy and pyarrow raise many kinds
        raise NearfarError(
            f"{str(path)!r} is no file of embeddings ({reason(error)}): expected one that nearfar "
            "encode has written"
        ) from error
    if embeddings.ndim != 2 or len(embeddings) != len(names):
        raise NearfarError(
            f"{str(path)!r} has embeddings of shape {embeddings.shape} and {len(names)} names: "
            "expected a name for each"
        )
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise NearfarError(f"{str(path)!r} has {twice!r} more than once: expected each name once")
    if embeddings.dtype.kind != "f" or not np.isfinite(embeddings).all():
        raise NearfarError(f"{str(path)!r} holds NaN or infinity, or no floats: encode again")
    return embeddings.astype(np.float32, copy=False), names


def write_images(folder: str | os.PathLike[str], names: Iterable[str], images: Tensor) -> None:
    """Write images as PNG files.

    Parameters
    ----------
    folder : str or path
        Folder of the files; sub-folders are created as needed.
    names : iterable of str
        Relative path of each image. ``.png`` is appended, so that a.jpg and a.gif do not collide;
        names that are too long are shortened.
    images : Tensor
        float[n, c, h, w], where 0…1 is black…white.

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
