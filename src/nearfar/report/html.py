"""Reports as self-contained HTML pages. Figures are also written as PNG files."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from string import Template

from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from nearfar.data import to_unit
from nearfar.evaluation import Evaluation
from nearfar.files import atomic_path
from nearfar.progress import Track, silent
from nearfar.report.browse import ImageMap, browser
from nearfar.report.figures import save_figure

REPORT = "report.html"
#: Largest side of an image in a row, in pixels.
THUMBNAIL = 96


@dataclass(frozen=True)
class Strip:
    """Row of images with captions.

    Parameters
    ----------
    title : str
        Title of the row, possibly empty.
    pixels : Tensor or sequence of Tensor
        Images of shape [c, h, w]: uint8, or float with values in [0, 1].
    captions : sequence of str
        Caption of each image. Line breaks are preserved.
    side : int
        Maximum side of an image on the page, in pixels.

    Examples
    --------
    >>> import torch
    >>> Strip("Group 1", torch.zeros(1, 3, 8, 8), ["cat.jpg"]).captions
    ['cat.jpg']
    """

    title: str
    pixels: Tensor | Sequence[Tensor]
    captions: Sequence[str]
    side: int = THUMBNAIL


@dataclass(frozen=True)
class Section:
    """Section of a report.

    Parameters
    ----------
    title : str
        Heading of the section. The file name of a figure is derived from this heading.
    text : str
        Explanation of the content, in one or two sentences.
    content : Figure, Evaluation, ImageMap, mapping of str to object, or sequence of Strip, optional
        Figure, table of scores, interactive map, settings by name, or rows of images.
    alt : str
        Alternative text of a figure, for readers who cannot see it. Default: the title.

    Examples
    --------
    >>> Section("Settings", "Options of the training.", {"epochs": 20}).title
    'Settings'
    """

    title: str
    text: str
    content: Figure | Evaluation | ImageMap | Mapping[str, object] | Sequence[Strip] | None = None
    alt: str = ""


def write_report(
    folder: str | os.PathLike[str],
    *,
    title: str,
    lead: str,
    sections: Sequence[Section],
    name: str = REPORT,
    track: Track = silent,
) -> Path:
    """Write a report as an HTML page, and each figure as a PNG file.

    The page is self-contained: figures and styles are embedded, and no other files are loaded. A
    script is included only if a section contains an interactive map.

    Parameters
    ----------
    folder : str or path
        Output folder, created if needed.
    title, lead : str
        Heading of the page, and the paragraph below it.
    sections : sequence of Section
        Sections of the page, in order.
    name : str
        File name of the page.
    track : Track
        Progress display, see `nearfar.progress.Track`.

    Returns
    -------
    Path
        Path of the page.

    Examples
    --------
    >>> import tempfile
    >>> sections = [Section("Settings", "Options of the training.", {"epochs": 20})]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = write_report(folder, title="Digits", lead="A short run.", sections=sections)
    ...     "<h1>Digits</h1>" in page.read_text()
    True
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    policy = style = script = ""
    if any(isinstance(section.content, ImageMap) for section in sections):
        style, code = _resource("browse/browse.css"), _resource("browse/browse.js")
        allowed = b64encode(sha256(code.encode()).digest()).decode()
        policy, script = f"; script-src 'sha256-{allowed}'", f"<script>{code}</script>\n"
    page = Template(_resource("page.html")).substitute(
        title=escape(title),
        lead=escape(lead),
        sections="\n".join(_section(section, folder, track) for section in sections),
        policy=policy,
        style=style,
        script=script,
    )
    with atomic_path(folder / name) as path:
        path.write_text(page, encoding="utf-8")
    return folder / name


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _section(section: Section, folder: Path, track: Track) -> str:
    """Return a section as HTML. A figure is also written to a file in `folder`."""
    content = section.content
    if isinstance(content, Figure):
        shown = _picture(content, folder / f"{_slug(section.title)}.png", section)
    elif isinstance(content, Evaluation):
        shown = _table(content, section.title)
    elif isinstance(content, ImageMap):
        shown = browser(content, track=track)
    elif isinstance(content, Mapping):
        shown = _settings(content)
    else:
        shown = "\n".join(map(_strip, content or ()))
    return (
        f"<section>\n<h2>{escape(section.title)}</h2>\n<p>{escape(section.text)}</p>\n"
        f"{shown}\n</section>"
    )


def _picture(figure: Figure, path: Path, section: Section) -> str:
    """Write a figure to a file, and return an HTML image element with the same content embedded."""
    with atomic_path(path) as temporary:
        save_figure(figure, temporary)
        data = b64encode(temporary.read_bytes()).decode()
    width, height = (round(inches * 100) for inches in figure.get_size_inches())
    return (
        f'<img alt="{escape(section.alt or section.title)}" width="{width}" height="{height}" '
        f'src="data:image/png;base64,{data}">'
    )


def _table(evaluation: Evaluation, title: str) -> str:
    """Return a table of scores as HTML. On narrow screens, the table scrolls horizontally."""
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in evaluation.columns.values())
    rows = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(
            f"<td><strong>{escape(score.text)}</strong></td>"
            if score.best
            else f"<td>{escape(score.text)}</td>"
            for score in scores
        )
        + "</tr>"
        for name, scores in evaluation.formatted()
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in evaluation.notes)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(title)}">\n<table>\n'
        f"<thead><tr><td></td>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n"
        f'<ul class="notes">{notes}</ul>'
    )


def _strip(strip: Strip) -> str:
    """Return a row of images as HTML, with each image embedded as a JPEG file."""
    title = f"<h3>{escape(strip.title)}</h3>\n" if strip.title else ""
    figures = "\n".join(
        f'<figure><img alt="" src="data:image/jpeg;base64,'
        f'{b64encode(_jpeg(pixels, strip.side)).decode()}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for pixels, caption in zip(strip.pixels, strip.captions, strict=True)
    )
    wide = " wide" if strip.side > THUMBNAIL else ""
    return f'{title}<div class="strip{wide}">\n{figures}\n</div>'


def _jpeg(pixels: Tensor, side: int) -> bytes:
    """Return an image of shape [c, h, w] as a JPEG file with sides of at most `side` pixels."""
    array = (255 * to_unit(pixels)).round().byte().permute(1, 2, 0).numpy()
    picture = Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array)
    picture.thumbnail((side, side))
    file = BytesIO()
    picture.save(file, "JPEG", quality=80)
    return file.getvalue()


def _settings(settings: Mapping[str, object]) -> str:
    """Return settings as an HTML description list."""
    pairs = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in settings.items()
    )
    return f"<dl>\n{pairs}\n</dl>"


def _slug(title: str) -> str:
    """Return a file name for a title: its ASCII words in lowercase, joined by hyphens."""
    return "-".join(re.findall(r"[a-z0-9]+", title.lower())) or "figure"
