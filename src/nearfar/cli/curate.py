"""Command ``nearfar curate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from nearfar.cli.options import (
    DATA_HELP,
    ENCODER_HELP,
    DataOptions,
    Device,
    EncoderOptions,
    OverwriteFiles,
    Seed,
    bars,
    shown,
)
from nearfar.errors import NearfarError
from nearfar.files import is_unfinished_output, remove_on_failure, try_output, unfinished_output
from nearfar.progress import tracked

if TYPE_CHECKING:
    from nearfar.data import Images
    from nearfar.encoders import Encoder
    from nearfar.progress import Bars

DEFAULT_ENCODER = (
    "Default: a pretrained EfficientNet-lite0, if the photos extra is installed; otherwise pixels."
)


def curate(
    data: Annotated[str, Parameter(help=DATA_HELP)],
    *,
    out: Path,
    encoder: Annotated[str | None, Parameter(help=f"{ENCODER_HELP} {DEFAULT_ENCODER}")] = None,
    against: str | None = None,
    select: int | None = None,
    clusters: int | None = None,
    mirrored: bool = False,
    images: DataOptions = DataOptions(),
    model: EncoderOptions = EncoderOptions(),
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: OverwriteFiles = False,
) -> None:
    """Find duplicates, outliers, label errors and leaks, and select images.

    No image file is changed.

    **For example**

        nearfar curate photos --out curation
        nearfar curate photos --encoder run --against test_photos --select 300 --out curation
        nearfar curate photos --encoder photos.parquet --out curation
        nearfar curate new_photos --against curation --out new_curation

    Parameters
    ----------
    out
        Folder to write to: curation.html, curation.json, images.parquet, duplicates.parquet,
        thumbnails.parquet and, with --against, leaks.parquet.
    against
        Images that must not occur in DATA, such as a test set, to find leaks. Or the output folder
        of an earlier nearfar curate, to compare with those images without reading them again.
    select
        Number of representative images to select. Default: none.
    clusters
        Number of clusters. Default: √(n/2), at most 30.
    mirrored
        Count mirror images as duplicates.
    """
    if encoder is None and model != EncoderOptions():
        raise NearfarError("--weights and --size need --encoder timm:NAME")
    try_output(out, overwrite=overwrite or is_unfinished_output(out), folder=True)

    track = bars()
    opened = _default_encoder(track) if encoder is None else model.open(encoder, track)

    from nearfar import curation
    from nearfar.report import write_curation_page

    source = images.open_like(opened, data, track)
    found = curation.curate(
        source,
        opened,
        against=_open_against(against, opened, images, track),
        count=select,
        clusters=clusters,
        mirrored=mirrored,
        seed=seed,
        device=device,
        track=track,
    )
    with remove_on_failure(out):
        out.mkdir(parents=True, exist_ok=True)
        with unfinished_output(out):
            curation.write_curation(out, found)
            page = write_curation_page(out, found, track=track)
    for line in curation.describe(found):
        print(line)
    if not found.keep.all():
        print(f"the images to leave out are listed in {shown(out / curation.LEAVE_OUT)}")
    print(f"a map to browse, and thumbnails, are in {shown(page)}")


def _default_encoder(track: Bars) -> Encoder:
    def load() -> Encoder:
        from nearfar.curation import default_encoder  # torch takes seconds

        return default_encoder()

    return tracked(track, "loading the default encoder", load)


def _open_against(
    against: str | None, encoder: Encoder, images: DataOptions, track: Bars
) -> Images | None:
    from nearfar.curation import THUMBNAILS, CuratedImages

    if against is None:
        return None
    if (Path(against) / THUMBNAILS).is_file():
        return CuratedImages(against)
    return images.open_like(encoder, against, track)
