"""Report of a run: reconstructions, maps, neighbors, curves and settings."""

from __future__ import annotations

import os
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
    MIN_MAP_IMAGES,
    embedding_maps,
    reconstruction_sheet,
    training_curves,
)
from nearfar.report.html import Section, write_report
from nearfar.report.samples import find_samples
from nearfar.runs import TrainedRun

#: Reconstructed images in the report.
RECONSTRUCTIONS = 12
#: Queries for near and far samples, and samples per query.
QUERIES = 6
SAMPLES = 5
#: Most images that are encoded for maps and neighbors.
MAX_ENCODED = 20_000
#: Name of the trained network in the report.
_METHOD = "NRE"
#: Initial networks in words.
_INITIAL = {"autoencoder": "the plain autoencoder", "untrained": "the untrained network"}


def report_run(
    run: TrainedRun,
    images: Images,
    folder: str | os.PathLike[str],
    *,
    log: list[dict[str, Any]],
    evaluation: Evaluation | None = None,
    device: torch.device,
    seed: int = 0,
    track: Track = silent,
) -> Path:
    """Write a report of a run, with examples from a set of images.

    Parameters
    ----------
    run : TrainedRun
        Run to report; its networks are moved to `device`.
    images : Images
        Images of the run's shape; labels color the map.
    folder : str or path
        Folder of `report.html` and its figures.
    log : list of dict
        Lines of the run's log.
    evaluation : Evaluation, optional
        Scores of the run.
    device : torch.device
        Device of the networks.
    seed : int
        Seed of the choice of images.
    track : Track
        Progress display, see `nearfar.progress.Track`.

    Returns
    -------
    Path
        Path of the page.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar import NRE
    >>> from nearfar.data import images_from_array
    >>> from nearfar.runs import read_log, read_run
    >>> images = images_from_array(np.random.rand(4, 8, 8))
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     folder = Path(parent, "run")
    ...     NRE(pretrain_epochs=1, epochs=1, device="cpu").fit(images).save(folder)
    ...     log, cpu = read_log(folder), torch.device("cpu")
    ...     report_run(read_run(folder), images, folder / "report", log=log, device=cpu).name
    'report.html'
    """
    chosen = _choose(images, MAX_ENCODED, seed)
    shown = images.batch(chosen[:RECONSTRUCTIONS])
    some = Subset(images, chosen)
    before, after = (
        apply_to_all(network.encoder.to(device).eval(), some, device=device, track=track)
        for network in (run.pretrained, run.autoencoder)
    )
    initial, method = _INITIAL[run.start], _METHOD
    sections = [
        Section(
            "Reconstructions",
            f"Images, and their reconstructions by {initial} and by {method} (Fig. 4 of the "
            "paper).",
            _reconstructions(run, to_unit(shown), device),
        ),
        _map(run, some, before, after, seed),
        _near_and_far(run, some, after),
        Section(
            "Training",
            "Pixel error, terms of the objective, effective rank of the embeddings, and units that "
            "are zero for all images.",
            training_curves(log),
        ),
    ]
    if evaluation is not None:
        sections.insert(
            0,
            Section(
                "Scores",
                f"Simple classifiers and k-means on raw pixels, on embeddings of {initial} and on "
                f"those of {method}.",
                evaluation,
            ),
        )
    sections.append(Section("Settings", "Images and options of the training.", _settings(run)))
    return write_report(
        Path(folder),
        title=f"nearfar: {images.name}",
        lead=f"{method}, trained without labels on {run.config.data.images:,} images of "
        f"{_size(run)}; examples from {len(some):,} images of {images.name}.",
        sections=sections,
    )


def _choose(images: Images, most: int, seed: int) -> Tensor:
    """Choose at most `most` rows in random order, starting with one row per class."""
    rows = np.random.default_rng(seed).permutation(len(images))
    if images.labels is not None:
        _, firsts = np.unique(images.labels[rows], return_index=True)
        rows = np.concatenate([rows[firsts], np.delete(rows, firsts)])
    return torch.from_numpy(rows[:most])


@torch.no_grad()
def _reconstructions(run: TrainedRun, images: Tensor, device: torch.device) -> Any:
    outputs = [
        network.to(device)(images.to(device)).reconstruction.float().cpu().numpy()
        for network in (run.pretrained, run.autoencoder)
    ]
    return reconstruction_sheet(images.numpy(), *outputs, initial=run.start, method=_METHOD)


def _map(run: TrainedRun, images: Images, before: Tensor, after: Tensor, seed: int) -> Section:
    title = "Map of the embeddings"
    if len(images) < MIN_MAP_IMAGES:
        return Section(title, f"No map: it needs at least {MIN_MAP_IMAGES} images.")
    return Section(
        title,
        "Each point is an image; images with similar embeddings lie together (Fig. 1 of the "
        "paper). Distances between groups mean little; separation of classes means much.",
        embedding_maps(
            before.numpy(),
            after.numpy(),
            images.labels,
            images.classes,
            initial=run.start,
            method=_METHOD,
            seed=seed,
        ),
    )


def _near_and_far(run: TrainedRun, images: Images, embeddings: Tensor) -> Section:
    title = "Near and far samples"
    if len(images) < 2:
        return Section(title, "No samples: they need at least two images.")
    rows = range(min(QUERIES, len(images)))
    samples = find_samples(
        [str(row) for row in rows],
        to_unit(images.batch(rows)),
        embeddings[: len(rows)],
        rows,
        images,
        embeddings,
        count=min(SAMPLES, len(images) - 1),
        similarity=run.config.train["similarity"],
    )
    return Section(
        title,
        f"Images with the most and the least similar ones by the embeddings of {_METHOD}.",
        samples.figure(),
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
