"""``nearfar curate``."""

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

if TYPE_CHECKING:
    from nearfar.data import Images
    from nearfar.encoders import Encoder
    from nearfar.progress import Bars


def curate(
    data: Annotated[str, Parameter(help=DATA_HELP)],
    *,
    out: Path,
    encoder: Annotated[str | None, Parameter(help=ENCODER_HELP)] = None,
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
    """Find duplicates, outliers, label errors and leaks, and select images; no file is changed.

    **For example**

        nearfar curate photos --out curation
        nearfar curate photos --encoder run --against test_photos --select 300 --out curation
        nearfar curate photos --encoder photos.parquet --out curation
        nearfar curate new_photos --against curation --out new_curation

    Parameters
    ----------
    out
        Folder for curation.html, curation.json, images.parquet, duplicates.parquet,
        thumbnails.parquet and, with --against, leaks.parquet.
    encoder
        Default: a pretrained EfficientNet-lite0, if the extra photos is installed; otherwise
        pixels.
    against
        Images that must not occur among the others, such as a test set; finds leaks. Also the
        folder of an earlier curate, whose images are not read again.
    select
        Number of representative images to select. Default: none.
    clusters
        Number of clusters. Default: √(n/2), at most 30.
    mirrored
        Count mirror images as duplicates.
    """
    from nearfar import curation
    from nearfar.errors import NearfarError
    from nearfar.files import try_output, whole_folder
    from nearfar.report import CURATION_PAGE, write_curation_page

    if encoder is None and model != EncoderOptions():
        raise NearfarError("--weights and --size need --encoder timm:NAME")
    # The page is written last: without it, an earlier call was killed.
    unfinished = not (out / CURATION_PAGE).exists()
    try_output(
        out, overwrite=overwrite, folder=True, kept=curation.CURATION_FILES if unfinished else ()
    )
    opened = curation.default_encoder() if encoder is None else model.open(encoder)
    track = bars()
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
    with whole_folder(out):
        (out / CURATION_PAGE).unlink(missing_ok=True)
        curation.write_curation(out, found)
        page = write_curation_page(out, found, track=track)
    for line in curation.describe(found):
        print(line)
    if not found.keep.all():
        print(f"the images to leave out are listed in {shown(out / curation.LEAVE_OUT)}")
    print(f"a map to browse, and thumbnails, are in {shown(page)}")


def _open_against(
    against: str | None, encoder: Encoder, images: DataOptions, track: Bars
) -> Images | None:
    from nearfar.curation import THUMBNAILS, CuratedImages

    if against is None:
        return None
    if (Path(against) / THUMBNAILS).is_file():
        return CuratedImages(against)
    return images.open_like(encoder, against, track)
