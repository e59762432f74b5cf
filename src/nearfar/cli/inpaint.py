"""``nearfar inpaint``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from nearfar.cli.options import Data, DataOptions, Overwrite, Run, Seed, bars

if TYPE_CHECKING:
    from torch import Tensor

    from nearfar.data import Images


def inpaint(
    run: Run,
    data: Data,
    *,
    out: Annotated[Path, Parameter(help="The folder to write PNG files to.")],
    masks: str | None = None,
    images: DataOptions = DataOptions(),
    seed: Seed = 0,
    device: str = "auto",
    overwrite: Overwrite = False,
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
        Images that are white where something is missing: one for all, or one for each with the
        same name but for its ending. If not given, the holes of the training are cut.
    seed
        Decides the holes, if they are cut at random.
    """
    import torch

    from nearfar.artifacts import read_run
    from nearfar.data import in_order, load, to_unit
    from nearfar.errors import NearfarError
    from nearfar.files import claim_output
    from nearfar.models import resolve_device
    from nearfar.models.inference import BATCH
    from nearfar.pretext import cut
    from nearfar.report.restoration import write_restored
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
    _, height, width = source.shape
    given = None if masks is None else images.open(masks, track, channels=1, size=(height, width))
    mask_rows = None if given is None else torch.tensor(_mask_rows(source, given))

    def steps() -> Iterator[tuple[Tensor, Mapping[str, Tensor]]]:
        batches = in_order(range(len(source)), BATCH)
        for rows, pixels in track(load(source, batches), "in-painting", len(batches)):
            original = to_unit(pixels.to(target))
            if given is None or mask_rows is None:
                missing = corruption(original).changed
            else:
                missing = to_unit(given.__getitems__(mask_rows[rows])).to(target) >= 0.5
            damaged = cut(original, missing)
            filled = torch.where(missing, network(damaged).reconstruction.clamp(0, 1), original)
            yield rows, {"original": original, "damaged": damaged, "filled": filled}

    torch.manual_seed(seed)
    with torch.no_grad():
        write_restored(out, source.names(), steps())
    print(f"{len(source)} filled images are in {out}")


def _mask_rows(images: Images, masks: Images) -> list[int]:
    """Which mask is for which image."""
    from nearfar.errors import NearfarError

    if len(masks) == 1:
        return [0] * len(images)
    rows = {Path(name).with_suffix(""): row for row, name in enumerate(masks.names())}
    names = images.names()
    for name in names:
        if Path(name).with_suffix("") not in rows:
            raise NearfarError(
                f"{masks.name!r} has no mask for {name!r}: expected one for each image with the "
                "same name but for its ending, or one for all"
            )
    return [rows[Path(name).with_suffix("")] for name in names]
