"""``nearfar neighbors``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from nearfar.cli.options import Data, DataOptions, Overwrite, Run, bars

if TYPE_CHECKING:
    from nearfar.data import Images


def neighbors(
    run: Run,
    data: Data,
    *,
    query: Annotated[list[str], Parameter(consume_multiple=True)],
    out: Path = Path("neighbors"),
    count: int = 6,
    images: DataOptions = DataOptions(),
    device: str = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Show which images are nearest to some images, and which are farthest from them.

    **For example**

        nearfar neighbors run photos --query photos/cat.jpg photos/car.jpg
        nearfar neighbors run mnist:test --query 0 17 42 --out neighbors

    Parameters
    ----------
    query
        Image files, or numbers of images in DATA, from 0.
    out
        The folder to write neighbors.png and neighbors.json to.
    count
        How many near and how many far images to show for each.
    """
    import torch

    from nearfar.artifacts import read_run
    from nearfar.data import to_unit
    from nearfar.errors import NearfarError
    from nearfar.files import atomic_path, claim_output, write_json
    from nearfar.models import apply_to_all, resolve_device
    from nearfar.report.figures import save_figure
    from nearfar.report.samples import find_samples

    if not query:
        raise NearfarError("--query has no value: expected image files, or numbers of images")
    claim_output(out, overwrite=overwrite, folder=True)
    trained = read_run(run)
    track = bars()
    source = images.open_for(trained.config, data, track)
    rows = [_row(text, source) for text in query]
    pixels = torch.stack(
        [
            to_unit(source[row] if row >= 0 else images.open_for(trained.config, text, track)[0])
            for text, row in zip(query, rows, strict=True)
        ]
    )
    target = resolve_device(device)
    encoder = trained.autoencoder.encoder.to(target)
    with torch.no_grad():
        query_codes = encoder(pixels.to(target)).cpu()
    samples = find_samples(
        query,
        pixels,
        query_codes,
        rows,
        source,
        apply_to_all(encoder, source, device=target, track=track),
        count=count,
        similarity=trained.config.train["similarity"],
    )
    out.mkdir(exist_ok=True)
    with atomic_path(out / "neighbors.png") as path:
        save_figure(samples.figure(), path)
    write_json(out / "neighbors.json", {"run": str(run), **samples.to_dict()})
    print(f"near and far images are in {out / 'neighbors.png'} and {out / 'neighbors.json'}")


def _row(query: str, images: Images) -> int:
    """The row of a query among the images; −1 for a file that is not one of them."""
    from nearfar.data import FolderImages
    from nearfar.errors import NearfarError

    path = Path(query)
    if not path.exists() and query.isdecimal():
        if int(query) >= len(images):
            raise NearfarError(
                f"query {query}: {images.name!r} has images 0 to {len(images) - 1} only"
            )
        return int(query)
    if isinstance(images, FolderImages) and path.resolve().is_relative_to(images.root.resolve()):
        name = str(path.resolve().relative_to(images.root.resolve()))
        return images.files.index(name) if name in images.files else -1
    return -1
