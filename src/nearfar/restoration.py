"""Image restoration with a trained network: reconstruction, denoising and inpainting.

`reconstruct`, `denoise` and `inpaint` yield batches, so that memory use does not depend on the
number of images. `nearfar.report.write_restored` writes batches as PNG files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nearfar.data import (
    ArrayImages,
    FolderImages,
    Images,
    Subset,
    conform_images,
    load_batches,
    read_binary_mask,
    sequential_batches,
    to_unit,
)
from nearfar.errors import NearfarError
from nearfar.models import INFERENCE_BATCH, resolve_device
from nearfar.pretext import Corruption, fill_missing, make_corruption
from nearfar.progress import Track, silent

if TYPE_CHECKING:
    from nearfar.models import Autoencoder
    from nearfar.runs import Run

__all__ = [
    "MeanPSNR",
    "RestoredBatch",
    "denoise",
    "inpaint",
    "open_masks",
    "psnr",
    "reconstruct",
]


class RestoredBatch(NamedTuple):
    """Batch of images at each stage of restoration.

    Attributes
    ----------
    rows : int64[b]
        Indices of the images in the image set.
    stages : mapping of str to float[b, c, h, w]
        Images by stage name, with values in [0, 1], on the network's device. The first stage is
        "original". The last one contains the restored images.

    Examples
    --------
    >>> batch = RestoredBatch(torch.arange(2), {"original": torch.zeros(2, 1, 8, 8)})
    >>> batch.images.shape
    torch.Size([2, 1, 8, 8])
    """

    rows: Tensor
    stages: Mapping[str, Tensor]

    @property
    def images(self) -> Tensor:
        """Restored images (float[b, c, h, w])."""
        return list(self.stages.values())[-1]


def reconstruct(
    run: Run,
    images: Images | npt.ArrayLike,
    *,
    device: str | torch.device = "auto",
    track: Track = silent,
) -> Iterator[RestoredBatch]:
    """Reconstruct images with the network of a run.

    Parameters
    ----------
    run : Run
        Trained run. See `nearfar.runs.read_run`. The network is moved to `device`.
    images : Images or array
        Images with the run's image shape. Arrays are resized to that shape.
    device : str or torch.device
        Device of the network.
    track : Track
        Progress display. See `nearfar.progress.Track`.

    Yields
    ------
    RestoredBatch
        Stages "original" and "reconstruction".

    Raises
    ------
    NearfarError
        If the image shape does not match the run.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar import NRE, recipe
    >>> from nearfar.runs import read_run
    >>> photos = np.random.default_rng(0).random((20, 8, 8))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     NRE(epochs=1, clusters=2, device="cpu").fit(photos).save(f"{folder}/run")
    ...     run = read_run(Path(folder, "run"))
    ...     [batch.images.shape for batch in reconstruct(run, photos, device="cpu")]
    [torch.Size([20, 1, 8, 8])]
    """
    network, target = _network(run, device)

    def restore(rows: Tensor, original: Tensor) -> dict[str, Tensor]:
        return {"original": original, "reconstruction": network(original).reconstruction.float()}

    images = conform_images(images, run.config.data.shape)
    return _restore(restore, images, target, track, "reconstructing")


def denoise(
    run: Run,
    images: Images | npt.ArrayLike,
    *,
    add_noise: bool = False,
    device: str | torch.device = "auto",
    track: Track = silent,
) -> Iterator[RestoredBatch]:
    """Remove noise from images.

    This works with any run, and best with a run trained with the denoising pretext task.

    Parameters
    ----------
    run, images, device, track
        See `reconstruct`.
    add_noise : bool
        Whether to first add the noise that the run was trained with. It is drawn from torch's
        global random generator.

    Yields
    ------
    RestoredBatch
        Stages "original", "noisy" (only with `add_noise`) and "denoised".

    Raises
    ------
    NearfarError
        If the image shape does not match the run, or `add_noise` is set and the run was trained
        without noise.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar import NRE, recipe
    >>> from nearfar.runs import read_run
    >>> photos = np.random.default_rng(0).random((20, 8, 8))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     NRE(epochs=1, clusters=2, device="cpu").fit(photos).save(f"{folder}/run")
    ...     run = read_run(Path(folder, "run"))
    ...     [list(batch.stages) for batch in denoise(run, photos, device="cpu")]
    [['original', 'denoised']]
    """
    network, target = _network(run, device)
    noise = None
    if add_noise:
        noise = _corruption(
            run, network, "denoising", "without noise: expected", ", or no added noise"
        )

    def restore(rows: Tensor, original: Tensor) -> dict[str, Tensor]:
        stages = {"original": original}
        if noise is not None:
            stages["noisy"] = noise(original).images
        (*_, noisy) = stages.values()
        return {**stages, "denoised": network(noisy).reconstruction.clamp(0, 1)}

    images = conform_images(images, run.config.data.shape)
    return _restore(restore, images, target, track, "denoising")


def inpaint(
    run: Run,
    images: Images | npt.ArrayLike,
    *,
    masks: Images | npt.ArrayLike | None = None,
    device: str | torch.device = "auto",
    track: Track = silent,
) -> Iterator[RestoredBatch]:
    """Fill the missing pixels of images. All other pixels are unchanged.

    Parameters
    ----------
    run, images, device, track
        See `reconstruct`. The run must have been trained with the inpainting pretext task.
    masks : Images or bool[n, h, w], optional
        Masks, which are true or nonzero where pixels are missing. To read masks from files, see
        `open_masks`. Default: holes as in training, drawn from torch's global random generator.

    Yields
    ------
    RestoredBatch
        Stages "original", "damaged" and "filled".

    Raises
    ------
    NearfarError
        If the shape of the images or masks does not match, or the run was trained with another
        pretext task.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar import NRE, recipe
    >>> from nearfar.runs import read_run
    >>> photos = np.random.default_rng(0).random((20, 8, 8))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = NRE(config=recipe("paper", epochs=1, clusters=2, pretext="inpainting"))
    ...     model.fit(photos).save(f"{folder}/run")
    ...     run = read_run(Path(folder, "run"))
    ...     [list(batch.stages) for batch in inpaint(run, photos, device="cpu")]
    [['original', 'damaged', 'filled']]
    """
    network, target = _network(run, device)
    holes = _corruption(run, network, "inpainting", "which fills no holes: expected")
    images = conform_images(images, run.config.data.shape)
    if masks is not None:
        masks = _check_masks(masks, images)

    def restore(rows: Tensor, original: Tensor) -> dict[str, Tensor]:
        if masks is None:
            missing = holes(original).mask
        else:
            missing = masks.batch(rows).to(target, torch.bool)
        damaged = fill_missing(original, missing)
        filled = torch.where(missing, network(damaged).reconstruction.clamp(0, 1), original)
        return {"original": original, "damaged": damaged, "filled": filled}

    return _restore(restore, images, target, track, "inpainting")


def open_masks(path: str | os.PathLike[str], images: Images, *, track: Track = silent) -> Images:
    """Open masks of missing pixels: a file for all images, or a folder with one mask per image.

    Masks are white where pixels are missing. Each mask in a folder has the name of its image, but
    may have another extension. Masks are resized to the image size. A pixel is missing if any part
    of it is white in the mask.

    Parameters
    ----------
    path : str or path
        Image file, or folder of image files.
    images : Images
        Images to which the masks belong.
    track : Track
        Progress display. See `nearfar.progress.Track`.

    Returns
    -------
    Images
        Masks in the order of `images` (uint8[n, 1, h, w]), with 1 where pixels are missing.

    Raises
    ------
    NearfarError
        If a mask cannot be read or is all black, or an image has no mask or several masks.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("L", (8, 8), "white").save(f"{folder}/mask.png")
    ...     masks = open_masks(f"{folder}/mask.png", ArrayImages(np.zeros((5, 1, 8, 8), np.uint8)))
    >>> len(masks), masks[0].float().mean().item()
    (5, 1.0)
    """
    path = Path(path)
    for_all = not path.is_dir()
    masks = FolderImages(
        path.parent if for_all else path,
        [path.name] if for_all else None,
        name=str(path),
        size=images.shape[1:],
        channels=1,
        strict=True,
        progress=track,
        read=read_binary_mask,
    )
    for row, name in enumerate(masks.names()):
        if not masks[row].any():
            raise NearfarError(
                f"mask {name!r} of {masks.name!r} is black over the whole image: expected "
                "white where pixels are missing"
            )
    return Subset(masks, [0] * len(images) if for_all else _mask_rows(images, masks))


def psnr(images: Tensor, clean: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio (PSNR) of each image.

    PSNR is −10·log₁₀ of the mean squared error.

    Parameters
    ----------
    images, clean : float[b, c, h, w]
        Images and the corresponding clean images, with values in [0, 1].

    Returns
    -------
    float[b]
        PSNR in decibels. It is infinite for identical images.

    Examples
    --------
    >>> psnr(torch.full((1, 1, 8, 8), 0.6), torch.full((1, 1, 8, 8), 0.5)).round()
    tensor([20.])
    """
    return -10 * (images - clean).square().mean((1, 2, 3)).log10()


class MeanPSNR:
    """Mean PSNR of each restoration stage relative to the original, accumulated over batches.

    Examples
    --------
    >>> clean = torch.full((1, 1, 8, 8), 0.5)
    >>> batch = RestoredBatch(torch.arange(1), {"original": clean, "denoised": clean + 0.1})
    >>> quality = MeanPSNR()
    >>> len(list(quality.measure([batch])))
    1
    >>> {stage: round(value) for stage, value in quality.result().items()}
    {'denoised': 20}
    """

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = {}

    def measure(self, batches: Iterable[RestoredBatch]) -> Iterator[RestoredBatch]:
        """Yield batches unchanged, and add the PSNR of each batch to the mean."""
        for batch in batches:
            original, *_ = batch.stages.values()
            for stage, images in list(batch.stages.items())[1:]:
                self._values.setdefault(stage, []).append(psnr(images, original).cpu())
            yield batch

    def result(self) -> dict[str, float]:
        """Return the mean PSNR of all measured images by stage name, in decibels."""
        return {stage: float(torch.cat(parts).mean()) for stage, parts in self._values.items()}


def _network(run: Run, device: str | torch.device) -> tuple[Autoencoder, torch.device]:
    target = resolve_device(device)
    if not run.reconstructs:
        raise NearfarError(
            "the run has no trained decoder (pixel_weight=0): train one with a higher pixel_weight"
        )
    return run.network.to(target), target


def _corruption(
    run: Run, network: Autoencoder, pretext: str, expected: str, otherwise: str = ""
) -> Corruption:
    """Check the pretext task of a run, and return the corruption that the run was trained with."""
    trained = run.config.train.pretext
    if trained.kind != pretext:
        raise NearfarError(
            f"run {str(run.folder)!r} was trained with pretext={trained.kind!r}, {expected} one "
            f"from train --pretext {pretext}{otherwise}"
        )
    return make_corruption(trained, network)


@torch.no_grad()
def _restore(
    restore: Callable[[Tensor, Tensor], dict[str, Tensor]],
    images: Images,
    device: torch.device,
    track: Track,
    description: str,
) -> Iterator[RestoredBatch]:
    """Apply a restoration to images, and yield the results batch by batch, in order."""
    batches = sequential_batches(range(len(images)), INFERENCE_BATCH)
    for rows, pixels in track(load_batches(images, batches), description, len(batches)):
        yield RestoredBatch(rows, restore(rows, to_unit(pixels.to(device, non_blocking=True))))


def _check_masks(masks: Images | npt.ArrayLike, images: Images) -> Images:
    """Convert masks to `Images`, after checking that their number and size match the images."""
    if not isinstance(masks, Images):
        values = np.asarray(masks).astype(bool)
        if values.ndim != 3:
            raise NearfarError(f"masks have shape {values.shape}: expected bool[n, h, w]")
        masks = ArrayImages(values[:, None].astype(np.uint8), name="masks")
    expected = (len(images), *images.shape[1:])
    if (len(masks), *masks.shape[1:]) != expected:
        raise NearfarError(
            f"masks have shape {(len(masks), *masks.shape[1:])}: expected {expected}, as the images"
        )
    return masks


def _mask_rows(images: Images, masks: Images) -> list[int]:
    """Return, for each image, the row of its mask in a folder of masks."""
    rows: dict[Path, int] = {}
    names = masks.names()
    for row, name in enumerate(names):
        other = rows.setdefault(Path(name).with_suffix(""), row)
        if other != row:
            raise NearfarError(
                f"{masks.name!r} has both {names[other]!r} and {name!r}: expected one mask per "
                "image"
            )
    for name in images.names():
        if Path(name).with_suffix("") not in rows:
            raise NearfarError(
                f"{masks.name!r} has no mask for {name!r}: expected one per image, with the same "
                "name up to the extension, or a single file for all images"
            )
    return [rows[Path(name).with_suffix("")] for name in images.names()]
