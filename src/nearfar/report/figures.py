"""The pictures of a report, as matplotlib figures that share no state and need no screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from sklearn.cluster import KMeans
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from nearfar.errors import NearfarError

Pixels = npt.NDArray[np.floating[Any]]
Codes = npt.NDArray[np.floating[Any]]

INK, MUTED, FAINT, SHADE = "#1f2328", "#656d76", "#d0d7de", "#f4f6f8"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"

#: Petroff's ten colors, told apart by people with any color vision, and two more.
CLASS_COLORS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59",
    "#e76300", "#b9ac70", "#717581", "#92dadd", "#1f2328", "#e377c2",
)  # fmt: skip

#: Sharp on screens of two dots a pixel.
DPI = 200
#: Inches.
WIDTH, LARGEST_TILE = 10.0, 1.1
#: Space between two images, as a part of one.
GAP = 0.06
MAPPED, PERPLEXITY, GROUPS = 2000, 30.0, 8
#: Longer names would cover a map, and stand in its legend only, which has so many letters a line.
LONGEST_ON_MAP, LEGEND_LETTERS = 3, 130
MARKED_EPOCHS = 40


def reconstructions(originals: Pixels, autoencoder: Pixels, nre: Pixels) -> Figure:
    """Originals above what two networks make of them (Fig. 4 of the paper).

    Parameters
    ----------
    originals, autoencoder, nre : float[n, c, h, w]
        Images where 0…1 is black…white, gray (c = 1) or RGB (c = 3); n about 12 reads well.
    """
    rows = {"original": originals, "autoencoder": autoencoder, "NRE": nre}
    shapes = {images.shape for images in rows.values()}
    if len(shapes) > 1:
        raise NearfarError(f"images to compare have shapes {sorted(shapes)}: expected one shape")
    sheet = _Sheet(originals.shape, columns=len(originals), rows=3, left=1.2)
    for row, (name, images) in enumerate(rows.items()):
        sheet.text(name, 0, row + 0.5, offset=(-8, 0), ha="right", va="center")
        sheet.images(images, 0, row)
    return sheet.figure


def neighbor_sheet(queries: Pixels, near: Pixels, far: Pixels) -> Figure:
    """Images, each with its near and its far samples.

    Parameters
    ----------
    queries : float[n, c, h, w]
        The images asked about, where 0…1 is black…white.
    near, far : float[n, T, c, h, w]
        The nearest first, and the farthest first.
    """
    for name, images in (("near", near), ("far", far)):
        if images.ndim != 5 or images.shape[0] != len(queries) or not images.shape[1]:
            raise NearfarError(
                f"{name} images have shape {images.shape} for {len(queries)} queries: "
                "expected (queries, T, channels, height, width)"
            )
    near_at = 1.5
    far_at = near_at + near.shape[1] + 0.5
    sheet = _Sheet(queries.shape, columns=far_at + far.shape[1], rows=len(queries), top=0.3)
    for text, column in (("query", 0.0), ("near", near_at), ("far", far_at)):
        sheet.text(text, column, 0, offset=(2, 5), ha="left", va="bottom")
    for row in range(len(queries)):
        sheet.images(queries[row : row + 1], 0, row)
        sheet.images(near[row], near_at, row)
        sheet.images(far[row], far_at, row)
    return sheet.figure


def code_maps(
    before: Codes,
    after: Codes,
    labels: npt.NDArray[np.integer[Any]] | None = None,
    classes: Sequence[str] | None = None,
    *,
    seed: int = 0,
) -> Figure:
    """Maps of the codes before and after NRE in two dimensions (Fig. 1 of the paper).

    t-SNE of the cosine, from at most 2,000 of the images, drawn at random. Without labels the
    colors are k-means groups of the codes before, and show where their images went.

    Parameters
    ----------
    before, after : float[n, d]
        Codes of the same images by the plain autoencoder and by NRE, n ≥ 5.
    labels : int[n], optional
        Class numbers.
    classes : sequence of str, optional
        The name of each class number.
    """
    if len(before) != len(after) or len(before) < 5:
        raise NearfarError(
            f"codes to map are of {len(before)} and {len(after)} images: expected the same, "
            "at least 5"
        )
    if labels is not None and len(labels) != len(before):
        raise NearfarError(f"{len(labels)} labels for {len(before)} codes: expected one for each")
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(before))[:MAPPED])
    before, after = before[rows], after[rows]
    if labels is None:
        groups = KMeans(min(GROUPS, len(rows)), random_state=seed).fit_predict(normalize(before))
        colors = np.array(CLASS_COLORS)[groups]
        members: dict[str, npt.NDArray[np.bool_]] = {}
    else:
        colors, members = _class_colors(np.asarray(labels)[rows], classes)

    longest = max(map(len, members), default=1)
    lines = -(-len(members) * (longest + 6) // LEGEND_LETTERS)
    figure = Figure((WIDTH, WIDTH / 2 + 0.3 + 0.25 * lines), layout="constrained")
    shuffled = rng.permutation(len(rows))
    for axes, name, codes in zip(
        figure.subplots(1, 2), ("autoencoder", "NRE"), (before, after), strict=True
    ):
        places = _in_two_dimensions(codes, seed)
        x, y = places[shuffled].T
        size = np.clip(12000 / len(rows), 10, 25)
        axes.scatter(x, y, s=size, c=colors[shuffled], linewidths=0, alpha=0.85)
        for text, member in members.items():
            if len(text) <= LONGEST_ON_MAP:
                _write_on_map(axes, text, places[member])
        axes.set_title(name, color=INK, fontsize=12, loc="left")
        axes.set_aspect("equal", adjustable="datalim")
        axes.set(xticks=[], yticks=[])
        axes.margins(0.03)
        axes.spines[:].set_color(FAINT)
    if members:
        figure.legend(
            handles=[
                axes.scatter([], [], s=36, color=colors[member.argmax()], linewidths=0, label=text)
                for text, member in members.items()
            ],
            loc="outside lower center",
            ncols=-(-len(members) // lines),
            frameon=False,
            labelcolor=INK,
            fontsize=10,
            handletextpad=0.2,
        )
    return figure


def training_curves(log: Sequence[Mapping[str, Any]]) -> Figure:
    """Pixel error, relational terms, and use of the codes over the epochs of both phases.

    Parameters
    ----------
    log : sequence of mapping
        One record an epoch, with "phase" ("pretrain" or "relational"), "pixel", "own", "near",
        "far", "effective_rank" and "dead_codes"; any of the numbers may be None.
    """
    if not log:
        raise NearfarError("the training log is empty: train for at least one epoch")
    panels = {
        "pixel error (mean square)": {"pixel": BLUE},
        "distance to own and near samples": {"own": BLUE, "near": GREEN},
        "similarity to far samples": {"far": ORANGE},
        "units of the code": {"effective_rank": BLUE, "dead_codes": ORANGE},
    }
    curves = {
        key: np.array([np.nan if record.get(key) is None else record[key] for record in log], float)
        for keys in panels.values()
        for key in keys
    }
    known = {key: curve for key, curve in curves.items() if np.isfinite(curve).any()}
    shown = {title: keys for title, keys in panels.items() if keys.keys() & known.keys()}
    figure = Figure((WIDTH, 0.8 + 1.6 * len(shown)), layout=ConstrainedLayoutEngine(h_pad=0.1))
    all_axes = list(figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0])
    epochs = np.arange(1, len(log) + 1)
    marker = "o" if len(log) <= MARKED_EPOCHS else ""
    for axes, (title, colors) in zip(all_axes, shown.items(), strict=True):
        for key in colors.keys() & known.keys():
            axes.plot(
                epochs, known[key], color=colors[key], linewidth=1.8, marker=marker, markersize=4
            )
        if "pixel" in colors:
            _logarithmic(axes)
        _plain(axes, title)
        _label_ends(axes, {key: known[key] for key in colors if key in known}, colors)
    _shade_phases(all_axes, [record["phase"] for record in log])
    all_axes[-1].set_xlabel("epoch", color=MUTED, fontsize=10)
    all_axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG whose bytes depend on nothing but the figure."""
    figure.savefig(path, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})


class _Sheet:
    """A figure of images in a grid, columns and rows from 0, beside margins in inches."""

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        columns: float,
        rows: int,
        left: float = 0,
        top: float = 0,
    ) -> None:
        if shape[-3] not in (1, 3) or not rows or not columns:
            raise NearfarError(f"images to show have shape {shape}: expected (n, 1 or 3, h, w)")
        tile = min((WIDTH - left) / columns, LARGEST_TILE)
        grid_width, grid_height = columns * tile, rows * tile * shape[-2] / shape[-1]
        width, height = left + grid_width, top + grid_height
        self.figure = Figure((width, height))
        self.axes = self.figure.add_axes(
            (left / width, 0, grid_width / width, grid_height / height)
        )
        self.axes.set_axis_off()
        self.columns, self.rows = columns, rows

    def images(self, images: Pixels, column: float, row: float) -> None:
        """Show images float[n, c, h, w] in one row, from a column on."""
        for i, image in enumerate(np.clip(images, 0, 1)):
            left, right = column + i + GAP / 2, column + i + 1 - GAP / 2
            top, bottom = row + GAP / 2, row + 1 - GAP / 2
            pixels = image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
            self.axes.imshow(
                pixels,
                cmap="gray",
                vmin=0,
                vmax=1,
                extent=(left, right, bottom, top),
                aspect="auto",
            )
            frame = Rectangle((left, top), right - left, bottom - top, fill=False)
            frame.set(edgecolor=FAINT, linewidth=0.5)
            self.axes.add_patch(frame)
        self.axes.set(xlim=(0, self.columns), ylim=(self.rows, 0))

    def text(
        self, text: str, column: float, row: float, *, offset: tuple[float, float], **align: Any
    ) -> None:
        """Write beside the grid, `offset` in points from a place on it."""
        self.axes.annotate(
            text,
            (column, row),
            xytext=offset,
            textcoords="offset points",
            annotation_clip=False,
            color=INK,
            fontsize=11,
            **align,
        )


def _in_two_dimensions(codes: Codes, seed: int) -> Codes:
    """Return t-SNE of unit vectors, whose squared distances are twice the cosine distances."""
    return TSNE(
        init="pca" if min(codes.shape) > 1 else "random",
        perplexity=min(PERPLEXITY, (len(codes) - 1) / 3),
        random_state=seed,
    ).fit_transform(normalize(codes))


def _class_colors(
    labels: npt.NDArray[np.integer[Any]], classes: Sequence[str] | None
) -> tuple[npt.NDArray[np.str_], dict[str, npt.NDArray[np.bool_]]]:
    """Return the color of each image, and which images each class has; small ones share a gray."""
    numbers, sizes = np.unique(labels, return_counts=True)
    crowded = len(numbers) > len(CLASS_COLORS)
    largest = np.sort(numbers[np.argsort(-sizes, kind="stable")][: len(CLASS_COLORS) - crowded])
    colors = np.full(len(labels), FAINT)
    members = {}
    for number, color in zip(largest, CLASS_COLORS, strict=False):
        member = labels == number
        colors[member] = color
        members[str(number) if classes is None else _literal(classes[number])] = member
    if crowded:
        members[f"{len(numbers) - len(largest)} smaller classes"] = ~np.isin(labels, largest)
    return colors, members


def _literal(name: str) -> str:
    """Return a name so that matplotlib takes no part of it for mathematics, or for no label."""
    text = name.replace("$", r"\$")
    return f"\N{ZERO WIDTH SPACE}{text}" if text.startswith("_") else text


def _write_on_map(axes: Axes, text: str, places: Codes) -> None:
    """Write the name of a class where it is densest: on the image with the nearest others."""
    among = NearestNeighbors(n_neighbors=max(1, len(places) // 3)).fit(places)
    x, y = places[among.kneighbors(places)[0][:, -1].argmin()]
    axes.text(
        x,
        y,
        text,
        color=INK,
        fontsize=10,
        fontweight="bold",
        ha="center",
        va="center",
        path_effects=[withStroke(linewidth=3, foreground="white")],
    )


def _plain(axes: Axes, title: str) -> None:
    """Leave of the axes what is needed to read them."""
    axes.set_title(title, color=INK, fontsize=11, loc="left")
    axes.tick_params(which="both", colors=MUTED, labelsize=9, length=0)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)


def _logarithmic(axes: Axes) -> None:
    """Count y in powers of ten, with plain numbers at 1, 2 and 5 of each."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _label_ends(
    axes: Axes, curves: Mapping[str, Codes], colors: Mapping[str, str], *, apart: float = 0.16
) -> None:
    """Write the name and last value of each curve at its end, `apart` of the height at least."""
    axes.autoscale_view()
    last = {key: curve[np.isfinite(curve)][-1] for key, curve in curves.items()}
    to_height = axes.transScale + axes.transLimits
    heights = {key: to_height.transform((1, value))[1] for key, value in last.items()}
    order = sorted(heights, key=heights.__getitem__)
    place = np.array([heights[key] for key in order])
    for i in range(1, len(place)):
        place[i] = max(place[i], place[i - 1] + apart)
    place -= max(place[-1] - 1, 0)
    for key, height in zip(order, place, strict=True):
        axes.annotate(
            f"{key.replace('_', ' ')}  {last[key]:.3g}" if len(last) > 1 else f"{last[key]:.3g}",
            (1, height),
            xycoords="axes fraction",
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=colors[key],
            fontsize=10,
            annotation_clip=False,
        )


def _shade_phases(all_axes: Sequence[Axes], phases: Sequence[str]) -> None:
    """Give each phase its ground and, above the first axes, its name."""
    start = 0.5
    for phase, records in groupby(phases):
        end = start + len(list(records))
        relational = phase == "relational"
        for axes in all_axes:
            axes.axvspan(start, end, color=SHADE if relational else "white", zorder=0, linewidth=0)
            axes.set_xlim(0.5, len(phases) + 0.5)
        all_axes[0].annotate(
            "relational training" if relational else "autoencoder training",
            (end if relational else start, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 24),
            textcoords="offset points",
            ha="right" if relational else "left",
            color=MUTED,
            fontsize=10,
        )
        start = end
