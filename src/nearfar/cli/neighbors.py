"""``nearfar neighbors``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from nearfar.cli.options import Data, DataOptions, OverwriteFiles, Run, bars

if TYPE_CHECKING:
    from torch import Tensor

    from nearfar.data import FolderImages, Images

    #: What a query is called, its row among the images searched (−1: none), and its pixels.
    Asked = tuple[str, int, Tensor]

#: Images that are queried at once.
MOST_QUERIES = 32


def neighbors(
    run: Run,
    data: Data,
    *,
    query: Annotated[list[str], Parameter(consume_multiple=True)],
    out: Path = Path("neighbors"),
    count: int = 6,
    images: DataOptions = DataOptions(),
    device: str = "auto",
    overwrite: OverwriteFiles = False,
) -> None:
    """Show which images are nearest to some images, and which are farthest from them.

    **For example**

        nearfar neighbors run photos --query photos/cat.jpg photos/car.jpg
        nearfar neighbors run mnist:test --query 0 17 42 --out neighbors

    Parameters
    ----------
    query
        Image files, folders or arrays of a few, or numbers of images in DATA, from 0.
    out
        The folder to write neighbors.png and neighbors.json to.
    count
        How many near and how many far images to show for each.
    """
    import torch

    from nearfar.data import to_unit
    from nearfar.errors import NearfarError
    from nearfar.files import atomic_path, claim_output, write_json
    from nearfar.models import apply_to_all, resolve_device
    from nearfar.report.figures import save_figure
    from nearfar.report.samples import find_samples
    from nearfar.runs import read_run

    if not query:
        raise NearfarError("--query has no value: expected image files, or numbers of images")
    claim_output(out, overwrite=overwrite, folder=True)
    trained = read_run(run)
    track = bars()
    source = images.open_for(trained.config, data, track)
    asked = [
        image
        for text in query
        for image in _among(text, source) or _beside(images.open_for(trained.config, text, track))
    ]
    if len(asked) > MOST_QUERIES:
        raise NearfarError(
            f"--query {' '.join(query)}: these are {len(asked)} images or more, expected at most "
            f"{MOST_QUERIES}"
        )
    names, rows, queried = zip(*asked, strict=True)
    pixels = torch.stack([to_unit(image) for image in queried])
    target = resolve_device(device)
    encoder = trained.autoencoder.encoder.to(target)
    with torch.no_grad():
        query_embeddings = encoder(pixels.to(target)).cpu()
    samples = find_samples(
        names,
        pixels,
        query_embeddings,
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


def _among(query: str, images: Images) -> list[Asked]:
    """What a query names among the images: one by its number, or files by their path."""
    from nearfar.data import FolderImages
    from nearfar.errors import NearfarError

    path, names = Path(query), images.names()
    if not path.exists() and query.isdecimal():
        if int(query) >= len(images):
            raise NearfarError(
                f"query {query}: {images.name!r} has images 0 to {len(images) - 1} only"
            )
        return [(query, int(query), images[int(query)])]
    if not isinstance(images, FolderImages):
        return []
    for form in (Path.absolute, Path.resolve):  # by its name, or else by what links lead to
        whole = form(path)
        rows = [row for row, file in enumerate(_files(images, form)) if file.is_relative_to(whole)]
        if rows:
            break
    return [(names[row], row, images[row]) for row in rows[: MOST_QUERIES + 1]]


@cache
def _files(images: FolderImages, form: Callable[[Path], Path]) -> list[Path]:
    """Return the path of each image in this form; kept, as it takes a while to follow links."""
    root = form(images.root)
    return [form(root / file) for file in images.files]


def _beside(images: Images) -> list[Asked]:
    """Images that are not those searched."""
    few = range(min(len(images), MOST_QUERIES + 1))
    return [(f"{images.name}: {images.names()[row]}", -1, images[row]) for row in few]
