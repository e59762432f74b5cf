"""``nearfar inpaint``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from nearfar.cli.options import Data, DataOptions, OverwriteFiles, Run, Seed, bars

if TYPE_CHECKING:
    from torch import Tensor

    from nearfar.data import Images
    from nearfar.progress import Bars


def inpaint(
    run: Run,
    data: Data,
    *,
    out: Annotated[Path, Parameter(help="The folder to write PNG files to.")],
    masks: Path | None = None,
    images: DataOptions = DataOptions(),
    seed: Seed = 0,
    device: str = "auto",
    overwrite: OverwriteFiles = False,
) -> None:
    """Fill what is missing of images, each written as a PNG file of the run's size.

    cat.jpg becomes cat.jpg.png.

    The run must have been trained with --pretext context: with --holes random for masks of your
    own. All pixels that are not missing stay as they are. The file comparison.png shows some of
    the images with the hole and without.

    **For example**

        nearfar inpaint run photos --out filled --masks masks
        nearfar inpaint run mnist:test --out filled

    Parameters
    ----------
    masks
        An image that is white where something is missing, or a folder with one for each image, of
        the same name but for its ending. What a mask touches at its full size is filled. If not
        given, the holes of the training are cut.
    seed
        Decides the holes, if they are cut at random.
    """
    import torch

    from nearfar.data import in_order, load, to_unit
    from nearfar.errors import NearfarError
    from nearfar.files import claim_output
    from nearfar.models import resolve_device
    from nearfar.models.inference import INFERENCE_BATCH
    from nearfar.pretext import fill_missing
    from nearfar.report.restoration import write_restored
    from nearfar.runs import read_run
    from nearfar.training.config import TrainConfig
    from nearfar.training.objective import make_corruption

    claim_output(out, overwrite=overwrite, folder=True)
    trained = read_run(run)
    config = TrainConfig.from_dict(trained.config.train)
    if config.pretext != "context":
        raise NearfarError(
            f"run {str(run)!r} was trained with pretext={config.pretext!r}, which fills no holes: "
            "expected one from train --pretext context"
        )
    track = bars()
    source = images.open_for(trained.config, data, track)
    target = resolve_device(device)
    network = trained.autoencoder.to(target)
    corruption = make_corruption(config, network)
    given = None if masks is None else _masks_for(source, masks, track)

    def steps() -> Iterator[tuple[Tensor, Mapping[str, Tensor]]]:
        batches = in_order(range(len(source)), INFERENCE_BATCH)
        for rows, pixels in track(load(source, batches), "in-painting", len(batches)):
            original = to_unit(pixels.to(target))
            if given is None:
                missing = corruption(original).changed
            else:
                missing = given.batch(rows).to(target, torch.bool)
            damaged = fill_missing(original, missing)
            filled = torch.where(missing, network(damaged).reconstruction.clamp(0, 1), original)
            yield rows, {"original": original, "damaged": damaged, "filled": filled}

    torch.manual_seed(seed)
    with torch.no_grad():
        write_restored(out, source.names(), steps())
    print(f"{len(source)} filled images are in {out}")


def _masks_for(images: Images, path: Path, track: Bars) -> Images:
    """Read a mask for each image, of its size: one that is for all, or those of a folder."""
    from nearfar.data import FolderImages, Subset
    from nearfar.data.decoding import read_binary_mask
    from nearfar.errors import NearfarError

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
                f"mask {name!r} of {masks.name!r} is black in all that is seen of it: expected "
                "white where something is missing"
            )
    return Subset(masks, [0] * len(images) if for_all else _mask_rows(images, masks))


def _mask_rows(images: Images, masks: Images) -> list[int]:
    """Which mask of a folder is for which image."""
    from nearfar.errors import NearfarError

    rows: dict[Path, int] = {}
    names = masks.names()
    for row, name in enumerate(names):
        other = rows.setdefault(Path(name).with_suffix(""), row)
        if other != row:
            raise NearfarError(
                f"{masks.name!r} has both {names[other]!r} and {name!r}: expected one mask for "
                "each image"
            )
    for name in images.names():
        if Path(name).with_suffix("") not in rows:
            raise NearfarError(
                f"{masks.name!r} has no mask for {name!r}: expected one for each image with the "
                "same name but for its ending, or a file in place of the folder, which is for all"
            )
    return [rows[Path(name).with_suffix("")] for name in images.names()]
