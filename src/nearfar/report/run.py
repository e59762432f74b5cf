"""The report of a run: what was learned, to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nearfar.data import Images, Subset, to_unit
from nearfar.evaluation import Evaluation
from nearfar.models import apply_to_all
from nearfar.progress import Track, silent
from nearfar.report.figures import (
    FEWEST_MAPPED,
    code_maps,
    neighbor_sheet,
    reconstructions,
    training_curves,
)
from nearfar.report.html import Section, write_report
from nearfar.runs import TrainedRun
from nearfar.search import open_queries, search_embeddings

#: Images shown in each picture, and the most that are encoded for maps and neighbors.
RECONSTRUCTED, QUERIED, SAMPLES, ENCODED = 12, 6, 5, 20_000
_STARTS = {"autoencoder": "the plain autoencoder", "untrained": "the untrained network"}


def report_run(
    run: TrainedRun,
    images: Images,
    folder: Path,
    *,
    log: list[dict[str, Any]],
    evaluation: Evaluation | None = None,
    device: torch.device,
    seed: int = 0,
    track: Track = silent,
) -> Path:
    """Write a report of what a run learned, as seen on some images.

    Parameters
    ----------
    images : Images
        Images of the run's shape; with labels, the map is colored by class.
    folder : Path
        Gets `report.html` and the pictures.
    log : list of dict
        The lines of the run's log.
    evaluation : Evaluation, optional
        The run's scores, if it was evaluated.
    seed : int
        Decides which images are shown.

    Returns
    -------
    Path
        The page.
    """
    chosen = _choose(images, ENCODED, seed)
    shown = images.batch(chosen[:RECONSTRUCTED])
    some = Subset(images, chosen)
    before, after = (
        apply_to_all(network.encoder.to(device).eval(), some, device=device, track=track)
        for network in (run.pretrained, run.autoencoder)
    )
    start = _STARTS[run.start]
    sections = [
        Section(
            "Reconstructions",
            f"Images, and what {start} and NRE make of them (Fig. 4 of the paper). "
            "NRE draws an image to what it has in common with its neighbors.",
            _reconstructions(run, to_unit(shown), device),
        ),
        _map(run, some, before, after, seed),
        _near_and_far(run, some, after),
        Section(
            "Training",
            "Pixel error, the terms of the objective, and how much of the embedding is used: its "
            "effective rank, and the units that never fire.",
            training_curves(log),
        ),
    ]
    if evaluation is not None:
        sections.insert(
            0,
            Section(
                "Scores",
                f"What simple classifiers, and k-means, make of raw pixels, of {start}'s "
                "embeddings and "
                "of NRE's.",
                evaluation,
            ),
        )
    sections.append(Section("Settings", "What was trained, on what, and how.", _settings(run)))
    return write_report(
        folder,
        title=f"nearfar: {images.name}",
        lead=f"What neighborhood-relational encoding learned, without labels, from "
        f"{run.config.data.images:,} images of {_size(run)}; shown on {len(some):,} images of "
        f"{images.name}.",
        sections=sections,
    )


def _choose(images: Images, most: int, seed: int) -> Tensor:
    """Rows of at most so many images in a random order, the first of as many classes as can be."""
    rows = np.random.default_rng(seed).permutation(len(images))
    if images.labels is not None:
        _, firsts = np.unique(images.labels[rows], return_index=True)
        rows = np.concatenate([rows[firsts], np.delete(rows, firsts)])
    return torch.from_numpy(rows[:most])


@torch.no_grad()
def _reconstructions(run: TrainedRun, images: Tensor, device: torch.device) -> Any:
    made = [
        network.to(device)(images.to(device)).reconstruction.float().cpu().numpy()
        for network in (run.pretrained, run.autoencoder)
    ]
    return reconstructions(images.numpy(), *made, start=run.start)


def _map(run: TrainedRun, images: Images, before: Tensor, after: Tensor, seed: int) -> Section:
    title = "Map of the embeddings"
    if len(images) < FEWEST_MAPPED:
        return Section(title, f"There is none: a map takes {FEWEST_MAPPED} images or more.")
    return Section(
        title,
        "Each point is an image; images with similar embeddings lie together "
        "(Fig. 1 of the paper). "
        "Distances between groups mean little; whether the classes come apart means much.",
        code_maps(
            before.numpy(),
            after.numpy(),
            images.labels,
            images.classes,
            start=run.start,
            seed=seed,
        ),
    )


def _near_and_far(run: TrainedRun, images: Images, embeddings: Tensor) -> Section:
    title = "Near and far samples"
    if len(images) < 2:
        return Section(title, "There are none: that takes two images or more.")
    rows = range(min(QUERIED, len(images)))
    result = search_embeddings(
        open_queries(rows, images),
        embeddings[: len(rows)],
        images,
        embeddings,
        count=min(SAMPLES, len(images) - 1),
        similarity=run.config.train["similarity"],
    )
    return Section(
        title,
        "Some images with those that NRE's embeddings find most and least similar.",
        neighbor_sheet(
            result.queries.pixels.numpy(), result.pixels(result.near), result.pixels(result.far)
        ),
    )


def _size(run: TrainedRun) -> str:
    channels, height, width = run.config.data.shape
    return f"{width}×{height} pixels in {'gray' if channels == 1 else 'color'}"


def _settings(run: TrainedRun) -> dict[str, object]:
    settings: dict[str, object] = {"images": run.config.data.source}
    if run.config.architecture is not None:
        settings["widths"] = run.config.architecture.widths
    settings |= {k: v for k, v in run.config.train.items() if v is not None and k != "widths"}
    return {
        name.replace("_", " "): " ".join(map(str, value))
        if isinstance(value, (list, tuple))
        else value
        for name, value in settings.items()
    }
