"""Figures with two-dimensional maps of embeddings, computed by t-SNE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from nearfar.errors import NearfarError
from nearfar.report.browse import MIN_MAP_IMAGES, project
from nearfar.report.figures.style import FAINT, INK, WIDTH, literal

Embeddings = npt.NDArray[np.floating[Any]]
Rows = npt.NDArray[np.bool_]

#: Petroff's ten colors, accessible with color vision deficiency, and two more.
CLASS_COLORS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59",
    "#e76300", "#b9ac70", "#717581", "#92dadd", "#1f2328", "#e377c2",
)  # fmt: skip

#: Most images on a map.
MAX_MAP_IMAGES = 2000
#: Longest class name on a map, in characters; longer names are only in the legend.
MAX_NAME_ON_MAP = 3
#: Characters per line of the legend, and characters that a dot and its distances take.
LEGEND_CHARACTERS, LEGEND_GAP = 130, 8


def embedding_maps(
    before: Embeddings,
    after: Embeddings,
    labels: npt.NDArray[np.integer[Any]],
    classes: Sequence[str] | None = None,
    *,
    legend: str = "",
    initial: str = "autoencoder",
    method: str = "NRE",
    seed: int = 0,
) -> Figure:
    """Return a figure with maps of embeddings before and after training (Fig. 1 of the paper).

    Each map is a t-SNE with cosine distance of at most 2,000 random images. The color of an image
    depends on its class and is the same in both maps.

    Parameters
    ----------
    before, after : float[n, d]
        Embeddings of the same n ≥ 5 images by the initial network and by the trained network. They
        may have different dimensions d.
    labels : int[n]
        Class numbers or cluster numbers.
    classes : sequence of str, optional
        Names of the classes, by class number. Default: the numbers.
    legend : str
        Title of the legend.
    initial, method : str
        Titles of the two maps.
    seed : int
        Seed for the selection of images and for t-SNE.

    Raises
    ------
    NearfarError
        If embeddings and labels do not match, or there are fewer than 5 images.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> figure = embedding_maps(rng.random((10, 8)), rng.random((10, 4)), np.arange(10) % 2)
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['autoencoder', 'NRE']
    """
    if len(before) != len(after) or len(before) < MIN_MAP_IMAGES:
        raise NearfarError(
            f"embeddings to map are of {len(before)} and {len(after)} images: expected the same "
            "number, "
            f"at least {MIN_MAP_IMAGES}"
        )
    if len(labels) != len(before):
        raise NearfarError(
            f"{len(labels)} labels for {len(before)} embeddings: expected one for each"
        )
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(before))[:MAX_MAP_IMAGES])
    before, after = before[rows], after[rows]
    colors, members = _class_colors(np.asarray(labels)[rows], classes)

    lines = -(-sum(len(text) + LEGEND_GAP for text, _ in members) // LEGEND_CHARACTERS)
    height = WIDTH / 2 + 0.3 + 0.25 * (lines + bool(legend))
    figure = Figure((WIDTH, height), layout="constrained")
    size = np.clip(12000 / len(rows), 10, 25)
    shuffled = rng.permutation(len(rows))
    for axes, name, embeddings in zip(
        figure.subplots(1, 2), (initial, method), (before, after), strict=True
    ):
        places = project(embeddings, seed=seed)
        x, y = places[shuffled].T
        axes.scatter(x, y, s=size, c=colors[shuffled], linewidths=0, alpha=0.85)
        for text, member in members:
            if len(text) <= MAX_NAME_ON_MAP:
                _write_on_map(axes, text, places[member])
        axes.set_title(name, color=INK, fontsize=12, loc="left")
        axes.set_aspect("equal", adjustable="datalim")
        axes.set(xticks=[], yticks=[])
        axes.margins(0.03)
        axes.spines[:].set_color(FAINT)
    figure.legend(
        [axes.scatter([], [], s=36, color=colors[member][0], lw=0) for _, member in members],
        [text for text, _ in members],
        title=legend or None,
        loc="outside lower center",
        ncols=-(-len(members) // lines),
        frameon=False,
        labelcolor=INK,
        fontsize=10,
        handletextpad=0.2,
    )
    return figure


def _class_colors(
    labels: npt.NDArray[np.integer[Any]], classes: Sequence[str] | None
) -> tuple[npt.NDArray[np.str_], list[tuple[str, Rows]]]:
    """Return the color of each image, and the name and the members (bool[n]) of each class.

    The largest class has the first color, as in the interactive map. If there are more classes than
    colors, the smallest classes are merged.
    """
    numbers, sizes = np.unique(labels, return_counts=True)
    crowded = len(numbers) > len(CLASS_COLORS)
    largest = numbers[np.argsort(-sizes, kind="stable")][: len(CLASS_COLORS) - crowded]
    colors = np.full(len(labels), FAINT)
    members = []
    for number, color in sorted(zip(largest, CLASS_COLORS, strict=False)):
        member = labels == number
        colors[member] = color
        name = str(number) if classes is None else literal(classes[number])
        members.append((name, member))
    if crowded:
        rest = f"{len(numbers) - len(largest)} other classes"
        members.append((rest, ~np.isin(labels, largest)))
    return colors, members


def _write_on_map(axes: Axes, text: str, places: Embeddings) -> None:
    """Write the name of a class where the density of its `places` on the map is highest."""
    from sklearn.neighbors import NearestNeighbors

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
