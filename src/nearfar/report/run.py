"""Report on a run: reconstructions, map, neighbors, training curves, scores and settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nearfar.config import SimilarityName, flatten
from nearfar.curation import cluster
from nearfar.data import Images, Shape, Subset, to_unit
from nearfar.encoders import Encoder
from nearfar.evaluation import Evaluation, knn_verdict, small_pixels
from nearfar.models import apply_to_all, resolve_device
from nearfar.progress import Track, silent, tracked
from nearfar.report.browse import MIN_MAP_IMAGES, choose_rows, map_images
from nearfar.report.figures import (
    embedding_maps,
    neighbor_sheet,
    reconstruction_sheet,
    training_curves,
)
from nearfar.report.html import Section, write_report
from nearfar.runs import Run
from nearfar.search import open_queries, search_embeddings

#: Number of reconstructed images.
RECONSTRUCTIONS = 12
#: Number of queries for near and far samples, and number of samples per query.
QUERIES = 6
SAMPLES = 5
#: Number of clusters: fewer than there are colors.
CLUSTERS = 8
#: Maximum number of labeled images for the verdict.
JUDGED = 2_000
#: Description of each initial network.
_INITIAL = {
    "autoencoder": "the plain autoencoder",
    "untrained": "the untrained network",
    "pretrained": "the pretrained network",
}


def report_run(
    run: Run,
    images: Images,
    folder: str | os.PathLike[str],
    *,
    evaluation: Evaluation | None = None,
    device: str | torch.device,
    seed: int = 0,
    track: Track = silent,
) -> Path:
    """Write a report on a run, with example images, as an HTML page.

    Parameters
    ----------
    run : Run
        Run to report on. Both networks of the run are moved to `device`.
    images : Images
        Example images with the image shape of the run. If they have labels, the labels determine
        the colors on the map.
    folder : str or path
        Output folder for ``report.html`` and the figures.
    evaluation : Evaluation, optional
        Scores of the run. Default: a report without scores.
    device : str or torch.device
        Device of the networks.
    seed : int
        Seed for the selection of images and for the map.
    track : Track
        Progress display, see `nearfar.progress.Track`.

    Returns
    -------
    Path
        Path of the page.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from nearfar import NRE
    >>> from nearfar.data import images_from_array
    >>> from nearfar.runs import read_run
    >>> images = images_from_array(np.random.rand(4, 8, 8))
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     folder = Path(parent, "run")
    ...     NRE(pretrain_epochs=1, epochs=1, device="cpu").fit(images).save(folder)
    ...     page = report_run(
    ...         read_run(folder), images, folder / "report", device="cpu"
    ...     )
    >>> page.name
    'report.html'
    """
    device = resolve_device(device)
    chosen = choose_rows(images, seed=seed)
    shown = images.batch(chosen[:RECONSTRUCTIONS])
    some = Subset(images, chosen)
    before, after = (
        apply_to_all(network.encoder.to(device).eval(), some, device=device, track=track)
        for network in (run.initial, run.network)
    )
    initial, method = _INITIAL[run.initial_method], run.method
    similarity = run.config.train.similarity
    names = (run.initial_method, method)
    draw = partial(_maps, "Maps before and after", some, before, after, names, similarity, seed)
    sections = [
        *tracked(track, "drawing maps", draw),
        _near_and_far(method, some, after, similarity),
        Section(
            "Training",
            "Metrics of each epoch. The effective rank is the number of directions in which "
            "embeddings vary; dead units are the same for all images.",
            training_curves(run.log),
        ),
    ]
    if run.reconstructs:
        reconstructions = Section(
            "Reconstructions",
            f"Images, and their reconstructions by {initial} and by {method}.",
            _reconstructions(run, to_unit(shown), device),
        )
        sections.insert(0, reconstructions)
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
    sections.insert(0, Section("Verdict", _verdict(run, some, {initial: before}, after)))
    sections.append(Section("Settings", "Images and options of the training run.", _settings(run)))
    return write_report(
        Path(folder),
        title=f"nearfar: {images.name}",
        lead=f"{method}, trained without labels on {run.config.data.images:,} images of "
        f"{_size(run.config.data.shape)}; examples from {len(some):,} images of {images.name}.",
        sections=sections,
        track=track,
    )


def report_encoder(
    encoder: Encoder,
    images: Images,
    folder: str | os.PathLike[str],
    *,
    evaluation: Evaluation | None = None,
    device: str | torch.device,
    seed: int = 0,
    track: Track = silent,
) -> Path:
    """Write a report on an encoder, with example images, as an HTML page.

    If the encoder comes from a run, the report also covers training and reconstructions; see
    `report_run`.

    Parameters
    ----------
    encoder : Encoder
        Encoder, see `nearfar.encoders.open_encoder`.
    images, folder, evaluation, device, seed, track
        See `report_run`.

    Returns
    -------
    Path
        Path of the page.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from nearfar.data import images_from_array
    >>> from nearfar.encoders import open_encoder
    >>> images = images_from_array(np.random.rand(4, 32, 32))
    >>> encoder = open_encoder("timm:resnet18", weights="random")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report_encoder(encoder, images, folder, device="cpu").name
    'report.html'
    """
    if encoder.run is not None:
        return report_run(
            encoder.run,
            images,
            folder,
            evaluation=evaluation,
            device=device,
            seed=seed,
            track=track,
        )
    some = Subset(images, choose_rows(images, seed=seed))
    before = apply_to_all(small_pixels, some, device="cpu")
    after = torch.from_numpy(encoder.embed(some, device=device, track=track))
    title, names = "Maps of pixels and embeddings", ("pixels", encoder.name)
    draw = partial(_maps, title, some, before, after, names, encoder.similarity, seed)
    sections = [
        *tracked(track, "drawing maps", draw),
        _near_and_far(encoder.name, some, after, encoder.similarity),
    ]
    if evaluation is not None:
        text = f"Simple classifiers and k-means on raw pixels and the embeddings of {encoder.name}."
        sections.insert(0, Section("Scores", text, evaluation))
    return write_report(
        Path(folder),
        title=f"nearfar: {images.name}",
        lead=f"{encoder.name} on {len(some):,} images of {_size(images.shape)} of {images.name}.",
        sections=sections,
        track=track,
    )


@torch.no_grad()
def _reconstructions(run: Run, images: Tensor, device: torch.device) -> Any:
    outputs = [
        network.to(device)(images.to(device)).reconstruction.float().cpu().numpy()
        for network in (run.initial, run.network)
    ]
    return reconstruction_sheet(
        images.numpy(), *outputs, initial=run.initial_method, method=run.method
    )


def _verdict(run: Run, images: Images, initial: Mapping[str, Tensor], after: Tensor) -> str:
    """Return one or two sentences about whether training improved the embeddings.

    With labels, 5-NN accuracies are compared. Otherwise, the effective rank is stated.
    """
    if images.labels is None or len(set(images.labels)) < 2:
        first, last = (run.log[epoch]["effective_rank"] for epoch in (0, -1))
        return (
            "Without labels, it is unknown whether training improved the embeddings; run nearfar "
            "evaluate on labeled images to find out. The effective rank changed from "
            f"{first:.1f} to {last:.1f} (maximum {after.shape[1]:,}; 1 means that all embeddings "
            "have become alike)."
        )
    some = torch.arange(len(images))[:JUDGED]
    pixels = apply_to_all(small_pixels, Subset(images, some), device="cpu")
    others = {name: embeddings[some] for name, embeddings in initial.items()}
    labels = torch.from_numpy(images.labels)[some]
    return f"{knn_verdict(after[some], {**others, 'pixels': pixels}, labels)}."


def _maps(
    title: str,
    images: Images,
    before: Tensor,
    after: Tensor,
    names: tuple[str, str],
    similarity: SimilarityName | Callable[..., Any],
    seed: int,
) -> list[Section]:
    """Return two sections: an interactive map, and a figure with maps before and after training.

    Both show the same k-means clusters.
    """
    if len(images) < MIN_MAP_IMAGES:
        return [Section("Images", f"No map: at least {MIN_MAP_IMAGES} images are needed.")]
    embeddings = after.numpy()
    cluster_of, typical = cluster(embeddings, min(CLUSTERS, len(images)), seed=seed)
    clusters = [f"cluster {number}" for number in range(len(typical))]
    column = np.array(clusters, object)[cluster_of]
    what = f"clusters of the embeddings of {names[1]}"
    colors: tuple[Any, Any, str] = (cluster_of, clusters, what)
    note = "which are therefore separate in the map of these embeddings"
    if images.labels is not None:
        what, colors = "classes", (images.labels, images.classes, "")
        note = "so the separation of colors is meaningful"
    labels, classes, legend = colors
    return [
        Section(
            "Images",
            f"{len(images):,} images by the embeddings of {names[1]}: similar images lie together. "
            "Clusters come from k-means on these embeddings.",
            map_images(
                images, embeddings, similarity=similarity, columns={"cluster": column}, seed=seed
            ),
        ),
        Section(
            title,
            "Each point is an image; images with similar embeddings lie close together. "
            "Distances between groups mean little. "
            f"In both maps, colors are {what}, {note}.",
            embedding_maps(
                before.numpy(),
                embeddings,
                labels,
                classes,
                legend=legend,
                initial=names[0],
                method=names[1],
                seed=seed,
            ),
        ),
    ]


def _near_and_far(
    method: str,
    images: Images,
    embeddings: Tensor,
    similarity: SimilarityName | Callable[..., Any],
) -> Section:
    title = "Near and far samples"
    if len(images) < 2:
        return Section(title, "No samples: at least two images are needed.")
    rows = range(min(QUERIES, len(images)))
    result = search_embeddings(
        open_queries(rows, images),
        embeddings[: len(rows)],
        images,
        embeddings,
        count=min(SAMPLES, len(images) - 1),
        similarity=similarity,
    )
    return Section(
        title,
        f"Images, and the most and the least similar images by the embeddings of {method}.",
        neighbor_sheet(
            result.queries.pixels.numpy(),
            result.pixels(result.near),
            result.pixels(result.far),
            names=result.names(),
        ),
    )


def _size(shape: Shape) -> str:
    channels, height, width = shape
    return f"{width}×{height} pixels in {'gray' if channels == 1 else 'color'}"


def _settings(run: Run) -> dict[str, object]:
    settings = {"images": run.config.data.source, **flatten(run.config.train.to_dict())}
    return {
        name.replace("_", " "): " ".join(map(str, value)) if isinstance(value, list) else value
        for name, value in settings.items()
        if value is not None
    }
