"""Training of a network: pre-training as an autoencoder, then training with an objective."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor, nn

from nearfar.augmentation import augmentation_name
from nearfar.config import Backbone, ContrastiveObjective, NetworkConfig, TrainConfig
from nearfar.data import Images, Subset
from nearfar.errors import NearfarError
from nearfar.files import reserve
from nearfar.models import (
    Autoencoder,
    BackboneEncoder,
    apply,
    check_convolutional,
    draw_kmeans_rows,
    embedding_size,
    initialize_by_kmeans,
    load_pretrained,
    resolve_network,
)
from nearfar.neighbors import allocate_rows
from nearfar.progress import Track, silent
from nearfar.randomness import own_random_numbers
from nearfar.runs import (
    EMBEDDINGS,
    Run,
    RunConfig,
    RunData,
    RunFolder,
    bank_folder,
    check_embeddings,
    load_weights,
    make_network,
    strip_prefix,
)
from nearfar.training.callbacks import Callback
from nearfar.training.distributed import explain_lost_processes, fill_bank, launch, rank_rows
from nearfar.training.objectives import Context, Objective, Reconstruction, make_objective
from nearfar.training.preflight import preflight
from nearfar.training.trainer import Trainer

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@torch.inference_mode(False)  # training needs gradients, whatever the caller's mode
@torch.enable_grad()
def train(
    images: Images,
    config: TrainConfig,
    *,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    callbacks: Sequence[Callback] = (),
    track: Track = silent,
) -> Run:
    """Train a network in two phases: as an autoencoder, then with an objective (§3.2).

    Threads that call this function run one after the other, because they share the random number
    generator of torch. The result of each call depends only on the images and the configuration.

    Parameters
    ----------
    images : Images
        Training images. Labels are ignored.
    config : TrainConfig
        Training settings.
    folder : str or path, optional
        Run folder for checkpoints and the result. Default: nothing is written.
    resume : bool
        Whether to resume the run in `folder`. On the same CPU with the same number of threads, the
        result is bit-identical to the result of an uninterrupted run. On a GPU, nondeterministic
        kernels may change the result.
    overwrite : bool
        Whether to replace an existing run in `folder`.
    callbacks : sequence of Callback
        Callbacks to call after each epoch.
    track : Track
        Progress display, see `nearfar.progress.Track`.

    Returns
    -------
    Run
        Trained network, initial network, embeddings of the images, and log.

    Raises
    ------
    NearfarError
        If the settings do not suit the images, the folder cannot be used, or the loss becomes NaN
        or infinite.
    Interrupted
        If training is interrupted by a signal. With a run folder, the run can be resumed.

    Examples
    --------
    >>> import torch
    >>> from nearfar.config import Optim
    >>> from nearfar.data import ArrayImages
    >>> images = ArrayImages(torch.rand(20, 1, 8, 8))
    >>> run = train(images, TrainConfig(optim=Optim(pretrain_epochs=1, epochs=1)))
    >>> [line["phase"] for line in run.log]
    ['pretrain', 'train']
    """
    if not isinstance(images, Images):  # from untyped callers
        raise NearfarError(
            f"images are of type {type(images).__name__}: expected Images, such as "
            "nearfar.open_images or nearfar.data.images_from_array return"
        )
    config = resolve_config(config, images)
    optim = config.optim
    path = None if folder is None else Path(folder)
    fabric = launch(config)
    record = RunConfig(RunData.of(images), config)
    network = make_network(config, images.shape)
    if not resume:
        _load_pretrained(network, config)  # before writing anything
    bank = None if path is None else bank_folder(path)
    context = Context(images, config, fabric, bank, track)
    objective = make_objective(context)
    preflight(context, network, objective, record, path, resume=resume, overwrite=overwrite)
    is_writer = fabric.is_global_zero  # one process for all
    opened = RunFolder.open(
        path,
        record,
        resume=resume,
        overwrite=overwrite,
        is_writer=is_writer,
        skipped=images.unused(),
    )
    with opened as run, own_random_numbers(), explain_lost_processes(fabric):
        _initialize(network, config, images, run, track)
        trainer = Trainer(
            fabric, network, images, optim, run, seed=config.seed, callbacks=callbacks, track=track
        )
        pretrain = Reconstruction(context)
        trainer.fit("pretrain", pretrain, epochs=optim.pretrain_epochs, lr=optim.pretrain_lr)
        initial = trainer.keep_initial()
        if optim.epochs:
            trainer.fit(
                "train",
                objective,
                epochs=optim.epochs,
                lr=optim.lr,
                head_lr=optim.lr * optim.head_lr_scale,
            )
        return _write_result(context, objective, network, initial, run)


def resolve_config(config: TrainConfig, images: Images) -> TrainConfig:
    """Return a copy of a configuration in which image-dependent defaults are filled in.

    Examples
    --------
    >>> import torch
    >>> from nearfar.data import ArrayImages
    >>> resolve_config(TrainConfig(), ArrayImages(torch.rand(2, 1, 28, 28))).network.widths
    (16, 32, 64)
    """
    if isinstance(config.network, NetworkConfig):
        config = replace(config, network=resolve_network(config.network, images.shape))
    objective = config.objective
    if isinstance(objective, ContrastiveObjective) and objective.augmentation == "auto":
        name = augmentation_name(objective.augmentation, images)
        config = replace(config, objective=replace(objective, augmentation=name))
    return config


def _load_pretrained(network: Autoencoder, config: TrainConfig) -> None:
    """Load pretrained weights into a backbone if the configuration asks for them.

    If it asks for k-means initialization, only check that the backbone supports it.
    """
    if not isinstance(config.network, Backbone):
        return
    encoder = cast(BackboneEncoder, network.encoder)
    if config.network.pretrained:
        load_pretrained(encoder, config.network.weights)
    elif config.network.weights == "kmeans":
        check_convolutional(encoder)


def _initialize(
    network: Autoencoder, config: TrainConfig, images: Images, run: RunFolder, track: Track
) -> None:
    """Load the weights of the checkpoint or, if there is none, set the initial weights."""
    weights = strip_prefix("network.", run.checkpoint.tensors)
    if weights and run.path is not None:
        load_weights(network, weights, run.path)
    elif run.resumed:  # stopped before its first checkpoint
        _load_pretrained(network, config)
    if not weights and isinstance(config.network, Backbone) and config.network.weights == "kmeans":
        sample = Subset(images, draw_kmeans_rows(len(images), config.seed))
        encoder = cast(BackboneEncoder, network.encoder)
        initialize_by_kmeans(encoder, sample, config.seed, track)


def _write_result(
    context: Context,
    objective: Objective,
    network: Autoencoder,
    initial: Autoencoder,
    folder: RunFolder,
) -> Run:
    """Encode all images with the trained network, and write and return the finished run."""
    _check_finite(network)
    images, fabric, track = context.images, context.fabric, context.track
    n, size = len(images), embedding_size(network.encoder.eval(), images)
    file: Path | None = None
    if folder.bank is not None and objective.on_disk:
        encoded = apply(
            network.encoder, images, device=fabric.device, rows=rank_rows(fabric, n), track=track
        )
        file = _to_disk(encoded, folder.bank, (n, size), fabric)
        embeddings = np.load(file, mmap_mode="c", allow_pickle=False)
    else:
        bank = allocate_rows(n, size, fabric.device)
        fill_bank(bank, network.encoder, images, fabric, track)
        embeddings = bank.cpu().numpy()
    check_embeddings(embeddings)
    run = Run(
        folder.config,
        network.cpu(),
        initial.cpu(),
        embeddings,
        folder.log,
        folder.path,
        images.unused(),
    )
    folder.finish(run, file)
    fabric.barrier()
    return run


def _check_finite(network: nn.Module) -> None:
    """Raise an error if weights are NaN or infinite; no loss is computed after the last step."""
    if not all(weights.isfinite().all() for weights in network.parameters()):
        raise NearfarError(
            "weights are no longer finite after the last step: try again with a lower learning rate"
        )


def _to_disk(
    encoded: Iterable[tuple[Tensor, Tensor]], folder: Path, shape: tuple[int, int], fabric: Fabric
) -> Path:
    """Write the embeddings of all processes to one .npy file, and return the path of the file."""
    path = folder / EMBEDDINGS
    if fabric.is_global_zero:
        folder.mkdir(exist_ok=True)
        open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        reserve(path)
    fabric.barrier()
    for rows, values in encoded:
        # Reopened for each batch: pages of an open map would count as this process's memory.
        open_memmap(path, mode="r+")[rows.numpy()] = values.cpu().numpy()
    fabric.barrier()
    return path
