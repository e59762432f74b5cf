"""Evaluation of a run, compared with raw pixels and with the initial network of the run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from nearfar import runs
from nearfar.data import Images, labels_like, require_labels, stratified_split
from nearfar.encoders import Encoder
from nearfar.evaluation.protocol import Features, evaluate
from nearfar.evaluation.scores import Embeddings
from nearfar.evaluation.table import Evaluation
from nearfar.models import apply_to_all, resolve_device
from nearfar.progress import Track, silent
from nearfar.runs import Run

#: Maximum image side for the row "pixels".
SMALL_SIDE = 32

#: Function that takes the name of a representation, images and a progress display, and returns the
#: embeddings.
_Embed = Callable[[str, Images, Track], Embeddings]


def evaluate_run(
    run: Run,
    train_images: Images,
    test_images: Images | None = None,
    *,
    beside: Sequence[Encoder] = (),
    device: str | torch.device,
    rbf_samples: int | None = None,
    seed: int = 0,
    track: Track = silent,
) -> Evaluation:
    """Compare the embeddings of a run with raw pixels and with those of the initial network.

    For the row "pixels", images are downsampled to at most 32×32, because more pixels are slower
    but not better.

    The initial network is the network at the start of the second training phase: the plain
    autoencoder or, without pre-training, an untrained or pretrained network.

    Parameters
    ----------
    run : Run
        Run to evaluate. Both networks of the run are moved to `device`.
    train_images, test_images : Images
        Labeled images with the image shape of the run. Without test images, a fifth of each class
        of `train_images` is held out for testing.
    beside : sequence of Encoder
        Additional encoders to compare on the same images.
    device : str or torch.device
        Device of the networks.
    rbf_samples, seed, track
        See `evaluate`.

    Returns
    -------
    Evaluation
        Table of scores, with one row per representation.

    Raises
    ------
    NearfarError
        If labels are missing, or the classes of training and test images do not match.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from nearfar import NRE
    >>> from nearfar.data import images_from_array
    >>> from nearfar.runs import read_run
    >>> images = images_from_array(np.random.rand(30, 8, 8), labels=np.arange(30) % 2)
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     folder = Path(parent, "run")
    ...     NRE(pretrain_epochs=1, epochs=1, device="cpu").fit(images).save(folder)
    ...     table = evaluate_run(read_run(folder), images, device="cpu")
    >>> list(table.rows)
    ['pixels', 'autoencoder', 'NRE']
    """
    representations = {
        "pixels": _network(small_pixels, device),
        run.initial_method: _network(run.initial.encoder, device),
        run.method: _network(run.network.encoder, device),
    } | _embedders(beside, device)
    return _evaluate(
        representations, train_images, test_images, rbf_samples=rbf_samples, seed=seed, track=track
    )


def evaluate_encoder(
    encoder: Encoder,
    train_images: Images,
    test_images: Images | None = None,
    *,
    beside: Sequence[Encoder] = (),
    device: str | torch.device,
    rbf_samples: int | None = None,
    seed: int = 0,
    track: Track = silent,
) -> Evaluation:
    """Compare the embeddings of an encoder with raw pixels.

    If the encoder comes from a run, the result also includes the initial network; see
    `evaluate_run`.

    Parameters
    ----------
    encoder : Encoder
        Encoder, see `nearfar.encoders.open_encoder`.
    train_images, test_images, beside, device, rbf_samples, seed, track
        See `evaluate_run`.

    Returns
    -------
    Evaluation
        Table of scores, with one row per representation.

    Raises
    ------
    NearfarError
        See `evaluate_run`.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.data import images_from_array
    >>> from nearfar.encoders import open_encoder
    >>> images = images_from_array(np.random.rand(30, 32, 32), labels=np.arange(30) % 2)
    >>> encoder = open_encoder("timm:resnet18", weights="random")
    >>> list(evaluate_encoder(encoder, images, device="cpu").rows)
    ['pixels', 'timm:resnet18 (random)']
    """
    if encoder.run is not None:
        return evaluate_run(
            encoder.run,
            train_images,
            test_images,
            beside=beside,
            device=device,
            rbf_samples=rbf_samples,
            seed=seed,
            track=track,
        )
    representations = {
        "pixels": _network(small_pixels, device),
        **_embedders([encoder, *beside], device),
    }
    return _evaluate(
        representations, train_images, test_images, rbf_samples=rbf_samples, seed=seed, track=track
    )


def read_scores(folder: str | os.PathLike[str]) -> Evaluation | None:
    """Return the scores stored in a run folder, or None if the run has not been evaluated.

    Raises
    ------
    NearfarError
        If the file of scores is damaged.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read_scores(Path(folder)) is None
    True
    """
    folder = Path(folder)
    saved = runs.read_evaluation(folder)
    if saved is None:
        return None
    with runs.explain_damage(folder, runs.EVALUATION):
        return Evaluation.from_dict(saved)


def small_pixels(images: Tensor) -> Tensor:
    """Return the pixels of images, downsampled to at most 32×32 and flattened.

    The images are float[b, c, h, w]; the result is float[b, d] with d ≤ 1024 c.

    Examples
    --------
    >>> small_pixels(torch.zeros(2, 1, 64, 16)).shape
    torch.Size([2, 512])
    """
    height, width = (min(side, SMALL_SIDE) for side in images.shape[2:])
    return adaptive_avg_pool2d(images, (height, width)).flatten(1)


def _network(network: Callable[[Tensor], Tensor], device: str | torch.device) -> _Embed:
    if isinstance(network, nn.Module):
        network = network.to(resolve_device(device))

    def embed(name: str, images: Images, track: Track) -> Embeddings:
        return apply_to_all(
            network, images, device=device, track=track, description=f"encoding: {name}"
        ).numpy()

    return embed


def _embedders(encoders: Iterable[Encoder], device: str | torch.device) -> dict[str, _Embed]:
    def embedder(encoder: Encoder) -> _Embed:
        def embed(name: str, images: Images, track: Track) -> Embeddings:
            description = f"encoding: {name}"
            return encoder.embed(images, device=device, track=track, description=description)

        return embed

    return {encoder.name: embedder(encoder) for encoder in encoders}


def _evaluate(
    representations: Mapping[str, _Embed],
    train_images: Images,
    test_images: Images | None,
    *,
    rbf_samples: int | None,
    seed: int,
    track: Track,
) -> Evaluation:
    """Embed the images with each function in `representations`, and return the table of scores."""
    labels = require_labels(train_images)
    if test_images is None:
        train, test = stratified_split(train_images, seed)
        train_labels, test_labels = labels[train], labels[test]
    else:
        train_labels, test_labels = labels, labels_like(test_images, train_images)
    rows = []
    for name, embed in representations.items():
        embeddings = embed(name, train_images, track)
        if test_images is None:
            rows.append(Features(name, embeddings[train], embeddings[test]))
        else:
            rows.append(Features(name, embeddings, embed(name, test_images, track)))
    return evaluate(
        rows,
        train_labels,
        test_labels,
        classes=train_images.classes,
        rbf_samples=rbf_samples,
        seed=seed,
        track=track,
    )
