"""A whole training: the autoencoder first, then the relations, kept in a run folder."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from numpy.lib.format import open_memmap
from torch import Tensor, nn

from nearfar import runs
from nearfar.data import Images, Subset, to_unit
from nearfar.data.sizes import MIN_SIDE
from nearfar.errors import NearfarError, reason
from nearfar.files import check_room, reserve
from nearfar.models import Architecture, Autoencoder, Backbone, apply
from nearfar.models.layers import check_batchnorm
from nearfar.neighbors import allocate_rows
from nearfar.progress import Track, silent
from nearfar.run_config import RunConfig, RunData
from nearfar.training.config import TrainConfig
from nearfar.training.needs import disk_needs
from nearfar.training.phases import Checkpoint, MakeObjective, OnEpoch, Phases
from nearfar.training.processes import fill_bank, launch, share
from nearfar.training.reference import make_reference
from nearfar.training.relation import Relation, make_finder

#: Images that are looked at to tell whether they are those that a run was begun with.
CHECKED = 16

#: Units of the hidden layer of a deep encoder.
HIDDEN = 512

#: What may differ between the beginning of a run and its continuation.
CHANGEABLE = {"pretrain_epochs", "epochs", "pretrain_lr", "lr", "device"}


@dataclass(frozen=True)
class Trained:
    """What training made, on the CPU.

    Parameters
    ----------
    autoencoder : Autoencoder
        The network trained on the relations, ℰ_φ + 𝒟.
    pretrained : Autoencoder
        The plain autoencoder that it started from; its encoder is the reference 𝒜.
    embeddings : Tensor
        Embeddings of the training images by ℰ_φ, float[n, d]; memory-mapped where the bank is on
        disk.
    log : list of dict
        A line an epoch.
    config : RunConfig
        What a run folder says of it.
    """

    autoencoder: Autoencoder
    pretrained: Autoencoder
    embeddings: Tensor
    log: list[dict[str, Any]]
    config: RunConfig


def train(
    images: Images,
    config: TrainConfig,
    *,
    folder: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    pretrained: Path | None = None,
    reference: nn.Module | None = None,
    objective: MakeObjective | None = None,
    origin: Mapping[str, Any] | None = None,
    pixel_range: tuple[float, float] = (0.0, 1.0),
    snapshots: Collection[int] = (),
    on_epoch: OnEpoch = lambda line: None,
    track: Track = silent,
) -> Trained:
    """Train an autoencoder, then the neighborhood relations on top of it (§3.2 of the paper).

    Parameters
    ----------
    images : Images
        What to learn from; labels are not looked at.
    config : TrainConfig
        How.
    folder : Path, optional
        The run folder to write, with checkpoints on the way; nothing is kept if not given.
    resume : bool
        Continue what is in `folder`. On one machine, with the same number of threads, the result
        is bit for bit that of an uninterrupted run.
    overwrite : bool
        Replace a run that is in `folder`.
    encoder, decoder : nn.Module, optional
        A network of the caller's own; copies of it are trained. `config.embedding_size`, `widths`
        and `backbone` are then not looked at.
    pretrained : Path, optional
        A run that kept a snapshot after `config.pretrain_epochs` epochs of the same plain training:
        relations begin from that, and the log from that run's, instead of training it again. Not
        looked at to resume.
    reference : nn.Module, optional
        A frozen encoder 𝒜 of the caller's own, from float[b, c, h, w] in 0…1 to embeddings
        float[b, d'], in place of that of the plain autoencoder. Has to be given again to resume.
    objective : callable, optional
        Makes what the second phase trains for, instead of the relation that `config` asks for;
        its `name` must be "relational". Has to be given again to resume.
    origin : mapping, optional
        How the images were opened, for the record.
    pixel_range : tuple of float
        The values of the caller's arrays that mean black and white, for the record.
    snapshots : collection of int
        After how many epochs, over both phases, `folder` keeps the network as it is then, for
        `nearfar.runs.read_snapshot`.
    on_epoch : callable
        Is given each line of the log.

    Raises
    ------
    NearfarError
        If the choices do not fit the data, the folder cannot be used, or the loss is no longer
        finite.
    Interrupted
        After an interrupt; with a folder, the run can be resumed.
    """
    make_finder(config).check(len(images))
    _check_pictures(config, images)
    if folder is None and (resume or config.bank == "disk"):
        raise NearfarError(f"resume={resume} and bank={config.bank!r} without a folder: give one")
    if encoder is not None and config.pretext == "split-brain":
        raise NearfarError(
            "pretext='split-brain' with a network of the caller's own: expected another pretext, "
            "or no encoder and decoder"
        )
    fabric = launch(config)
    description = RunConfig(
        _describe(images, origin),
        asdict(config),
        _architecture(images, config) if encoder is None else None,
        pixel_range,
    )
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = runs.build(description, encoder, decoder)
    embedding_size = _check_network(network, images)
    _check_batches(network, images, config, fabric)
    reference = make_reference(config, reference, images)
    written = folder if fabric.is_global_zero else None  # by one process for all
    if folder is not None and resume:
        check_continuation(folder, images, config)
    elif written is not None:
        needed = sum(disk_needs(config, images, network, reference).values())
        check_room(written, needed, "bank, embeddings and checkpoints")
        runs.check_folder(written, overwrite=overwrite)
    with nullcontext() if written is None else runs.hold(written):
        checkpoint = Checkpoint()
        log: list[dict[str, Any]] = []
        if resume and folder is not None:
            checkpoint = Checkpoint.read(folder)
            checkpoint.check_ahead(folder, config)
            runs.load_weights(network, checkpoint.tensors, "model.", folder)
            log = [line for line in runs.read_log(folder) if checkpoint.is_after(line)]
        elif pretrained is not None:
            begun = runs.read_snapshot(pretrained, config.pretrain_epochs, encoder, decoder)
            runs.load_weights(network, begun.state_dict(), "", pretrained)
            checkpoint = Checkpoint(phase=Relation.name)
            log = runs.read_log(pretrained)[: config.pretrain_epochs]
        elif config.initialization == "kmeans":
            _begin_typical(network, images, config.seed, track)
        if config.backbone is not None and fabric.device.type == "cuda":
            network.to(memory_format=torch.channels_last)
        if written is not None:
            if resume:
                runs.remove_unfinished(written)
            else:
                runs.claim_folder(written, overwrite=overwrite)
            runs.write_config(written, description)
            runs.write_log(written, log)
        fabric.barrier()

        phases = Phases(
            fabric=fabric,
            network=network,
            images=images,
            config=config,
            folder=folder,
            snapshots=snapshots,
            log=log,
            on_epoch=on_epoch,
            track=track,
            checkpoint=checkpoint,
            reference=reference,
            objective=objective,
        )
        with torch.random.fork_rng():
            plain = phases.run()
        _check_finite(network)
        embeddings: npt.NDArray[np.float32] | Path
        if folder is not None and config.bank == "disk":
            rows = share(fabric, len(images))
            encoded = apply(network.encoder, images, device=fabric.device, rows=rows, track=track)
            embeddings = _to_disk(
                encoded, runs.bank_folder(folder), (len(images), embedding_size), fabric
            )
        else:
            bank = allocate_rows(len(images), embedding_size, fabric.device)
            fill_bank(bank, network.encoder, images, fabric, track)
            embeddings = bank.cpu().numpy()
        if written is not None:
            runs.write_run(written, description, network, plain, embeddings)
            runs.remove_checkpoint(written)
        fabric.barrier()
    if folder is not None and isinstance(embeddings, Path):
        embeddings = np.load(folder / runs.EMBEDDINGS, mmap_mode="c", allow_pickle=False)
    return Trained(network.cpu(), plain.cpu(), torch.from_numpy(embeddings), log, description)


def _describe(images: Images, origin: Mapping[str, Any] | None) -> RunData:
    return RunData(
        source=images.name,
        images=len(images),
        shape=images.shape,
        skipped=len(images.skipped),
        checksum=_checksum(images),
        **(origin or {}),
    )


def _architecture(images: Images, config: TrainConfig) -> Architecture:
    return Architecture(
        images.shape,
        config.embedding_size,
        config.widths or (),
        split_brain=config.pretext == "split-brain",
        normalized=config.network != "plain",
        hidden=HIDDEN if config.network == "deep" else 0,
        backbone=config.backbone,
    )


def _begin_typical(network: Autoencoder, images: Images, seed: int, track: Track) -> None:
    """Set the weights of a backbone by k-means."""
    from nearfar.models.kmeans_init import draw_kmeans_rows, initialize_by_kmeans

    if not isinstance(network.encoder, Backbone):
        raise NearfarError(
            "initialization='kmeans' with a network of the caller's own: expected 'random'"
        )
    sample = Subset(images, draw_kmeans_rows(len(images), seed))
    initialize_by_kmeans(network.encoder, sample, seed, track)


def _check_batches(
    network: Autoencoder, images: Images, config: TrainConfig, fabric: Fabric
) -> None:
    """Refuse batches that are too small for what is done with them."""
    smallest = len(images) // -(-len(images) // config.batch_size)
    if smallest < fabric.world_size:
        raise NearfarError(
            f"batch_size={config.batch_size} for {len(images)} images: expected at least one image "
            f"in every batch for each of {fabric.world_size} processes"
        )
    alone = fabric.world_size == 1 and smallest < 2 * config.accumulate
    if config.relation == "embeddings" and config.epochs and alone:
        raise NearfarError(
            f"batch_size={config.batch_size} with accumulate={config.accumulate} and "
            f"relation='embeddings', which relates the images of a part: expected at least two "
            f"images in each of {config.accumulate} parts of {smallest} images"
        )
    if smallest // fabric.world_size < 2 * config.accumulate:  # a part has one image
        check_batchnorm(network, images.shape)


def _check_finite(network: nn.Module) -> None:
    """Stop where the very last step, whose loss nothing looks at, was one too many."""
    if not all(weights.isfinite().all() for weights in network.parameters()):
        raise NearfarError(
            "weights are no longer finite after the last step: try again with a lower learning rate"
        )


def _to_disk(
    encoded: Iterable[tuple[Tensor, Tensor]], folder: Path, shape: tuple[int, int], fabric: Fabric
) -> Path:
    """Let the processes write their embeddings to one .npy file."""
    path = folder / runs.EMBEDDINGS
    if fabric.is_global_zero:
        folder.mkdir(exist_ok=True)
        open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        reserve(path)
    fabric.barrier()
    for rows, values in encoded:
        # Opened each time: what stays open would count as this process's memory.
        open_memmap(path, mode="r+")[rows.numpy()] = values.cpu().numpy()
    fabric.barrier()
    return path


def _check_pictures(config: TrainConfig, images: Images) -> None:
    """Refuse to turn and bend what are no pictures, or to cut holes into them."""
    if min(images.shape[1:]) >= MIN_SIDE:
        return
    for name, value, meant in (
        ("pretext", config.pretext, config.pretext == "context"),
        ("views", config.views, config.views in ("shapes", "photos")),
    ):
        if meant:
            raise NearfarError(
                f"{name}={value!r} with images of shape {images.shape}: expected at least "
                f"{MIN_SIDE}x{MIN_SIDE} pixels; those smaller are taken for features"
            )


def check_continuation(folder: Path, images: Images, config: TrainConfig) -> None:
    """Check that training can go on with what is in a run folder.

    Raises
    ------
    NearfarError
        If it is finished, or was begun with other choices or other images.
    """
    before = runs.read_config(folder)
    if runs.is_finished(folder):
        raise NearfarError(f"run {str(folder)!r} is finished: there is nothing to resume")
    with runs.reading(folder, runs.CONFIG):
        choices = asdict(TrainConfig.from_dict(before.train))
    now = asdict(config)
    compared = (
        *((name, value, now[name]) for name, value in choices.items()),
        ("images", before.data.images, len(images)),
        ("shape", before.data.shape, images.shape),
    )
    for name, value, given in compared:
        if name not in CHANGEABLE and given != value:
            raise NearfarError(
                f"run {str(folder)!r} was begun with {name}={value}, not {given}: "
                "resume it with the same choices and images"
            )
    if before.data.checksum not in (None, _checksum(images)):
        raise NearfarError(
            f"run {str(folder)!r} was begun with other images than {images.name!r}: resume it with "
            "the same"
        )


def _checksum(images: Images) -> str:
    """Tell images from others of the same number and shape, by some of them."""
    some = np.linspace(0, len(images) - 1, CHECKED).astype(np.int64).tolist()
    total = 0
    for part in images.content(some):
        total = zlib.crc32(part, total)
    return f"{total:08x}"


def _check_network(network: Autoencoder, images: Images) -> int:
    """Return the length of an embedding, or stop if the network does not fit the images."""
    image = to_unit(images[0]).unsqueeze(0)
    try:
        with torch.no_grad():
            embeddings, reconstruction = network.eval()(image)
        made = tuple(embeddings.shape), tuple(reconstruction.shape)
    except Exception as error:  # of a network of the caller's own nearly any
        raise NearfarError(
            f"the network does not take images of shape {images.shape}: {reason(error)}"
        ) from error
    if made[1] != image.shape or len(made[0]) != 2:
        raise NearfarError(
            f"the network makes embeddings {made[0]} and images {made[1]} of {tuple(image.shape)}: "
            "expected (1, d) and the same"
        )
    return int(made[0][1])
