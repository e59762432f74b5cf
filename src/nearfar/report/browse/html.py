"""Interactive map of images for a self-contained HTML page."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch.nn.functional import interpolate

from nearfar.data import Images, load_batches, sequential_batches, to_unit
from nearfar.errors import NearfarError
from nearfar.files import natural_key
from nearfar.progress import Track, silent
from nearfar.report.browse.image_map import MAX_BROWSED, ImageMap

#: Thumbnail side in pixels, by maximum number of images.
_SIDES = {4000: 96, MAX_BROWSED: 64}
#: Thumbnails per row and per column of a sheet.
_COLUMNS = 16
#: Most bytes of all sheets, and compression qualities to try.
_MOST_BYTES, _QUALITIES = 19_000_000, (75, 55, 35, 15)


def browser(image_map: ImageMap, *, track: Track = silent) -> str:
    """Return a map of images as HTML. The page must also contain `browse.css` and `browse.js`.

    Raises
    ------
    NearfarError
        If there are more than 20,000 images.

    Examples
    --------
    >>> from nearfar.data import images_from_array
    >>> from nearfar.report import map_images
    >>> pixels = np.random.default_rng(0).random((20, 8, 8))
    >>> image_map = map_images(images_from_array(pixels), pixels.reshape(20, -1))
    >>> browser(image_map).startswith('<div class="browser"')
    True
    """
    n = len(image_map.images)
    if n > MAX_BROWSED:
        raise NearfarError(
            f"a page of {n} images: expected at most {MAX_BROWSED}; write a .parquet of more"
        )
    side = next(side for most, side in _SIDES.items() if n <= most)
    data = {
        "side": side,
        "sheetColumns": _COLUMNS,
        "sheets": _sheets(image_map.images, side, track),
        "names": image_map.images.names(),
        "places": _numbers(_unit_square(image_map.places), "<f4"),
        "near": _numbers(image_map.hits.near, "<i4"),
        "far": _numbers(image_map.hits.far, "<i4"),
        "columns": [_column(name, values) for name, values in image_map.columns.items()],
    }
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return (
        '<div class="browser"></div>\n<noscript><p>The map needs JavaScript.</p></noscript>\n'
        f'<script type="application/json">{text}</script>'
    )


def _sheets(images: Images, side: int, track: Track) -> list[str]:
    """Return sheets of thumbnails as WebP files in base64.

    The highest compression quality is used for which all sheets fit in the size limit.
    """
    sheets = [Image.fromarray(pixels) for pixels in _pixel_sheets(images, side, track)]
    files: list[bytes] = []
    for quality in _QUALITIES:
        files = []
        for sheet in sheets:
            file = BytesIO()
            sheet.save(file, "WEBP", quality=quality)
            files.append(file.getvalue())
        if sum(map(len, files)) <= _MOST_BYTES:
            break
    return [b64encode(file).decode() for file in files]


def _pixel_sheets(images: Images, side: int, track: Track) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield sheets of 16×16 thumbnails (uint8[h, w, 3]). The last sheet may have fewer rows."""
    batches = sequential_batches(range(len(images)), _COLUMNS**2)
    for _, pixels in track(load_batches(images, batches), "drawing thumbnails", len(batches)):
        small = interpolate(to_unit(pixels), size=(side, side), mode="area")
        tiles = (255 * small).round().byte().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
        missing = -len(tiles) % _COLUMNS
        tiles = np.pad(tiles, ((0, missing), (0, 0), (0, 0), (0, 0)))
        yield (
            tiles.reshape(-1, _COLUMNS, side, side, 3)
            .swapaxes(1, 2)
            .reshape(-1, _COLUMNS * side, 3)
        )


def _unit_square(places: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return positions, scaled to [0, 1] in both coordinates with the same factor."""
    low, high = places.min(0), places.max(0)
    return (places - (low + high) / 2) / max(float((high - low).max()), 1e-9) + 0.5


def _column(name: str, values: npt.NDArray[Any]) -> dict[str, Any]:
    """Return a column of a map as JSON types.

    Floats are scores. Other values are categories; the largest category is first.
    """
    if values.dtype.kind == "f":
        return {"name": name, "values": _numbers(values, "<f4")}
    known = values.astype(object) != None  # noqa: E711 - elementwise
    categories, numbers, sizes = np.unique(
        values[known].astype(str), return_inverse=True, return_counts=True
    )
    names = categories.tolist()
    order = np.array(
        sorted(range(len(names)), key=lambda i: (-sizes[i], natural_key(names[i]))), np.int64
    )
    codes = np.full(len(values), -1)
    codes[known] = order.argsort()[numbers]
    return {
        "name": name,
        "categories": [names[i] for i in order],
        "values": _numbers(codes, "<i4"),
    }


def _numbers(values: npt.NDArray[Any], kind: str) -> str:
    return b64encode(np.ascontiguousarray(values, kind).tobytes()).decode()
