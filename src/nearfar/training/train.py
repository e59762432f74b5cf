"""A whole training: the autoencoder first, then the relations, kept in a run folder."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from nearfar import artifacts
from nearfar.artifacts import RunConfig
from nearfar.data import Images, to_unit
from nearfar.errors import NearfarError
from nearfar.models import Architecture, Autoencoder, apply
from nearfar.progress import Track, silent
from nearfar.training.config import TrainConfig
from nearfar.training.loop import Phase, Position, strip
from nearfar.training.objective import Objective, Reconstruction
from nearfar.training.processes import all_sum, launch, share
from nearfar.training.relation import Relation, make_finder

#: What may differ between the beginning of a run and its continuation.
CHANGEABLE = {"pretrain_epochs", "epochs", "pretrain_lr", "lr", "device"}

OnEpoch = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Trained:
    """What training made, on the CPU.

    Parameters
    ----------
    autoencoder : Autoencoder
        The network trained on the relations, ℰ_φ + 𝒟.
    pretrained : Autoencoder
        The plain autoencoder that it started from; its encoder is the reference 𝒜.
    codes : Tensor
        Codes of the training images by ℰ_φ, float[n, d].
    log : list of dict
        A line an epoch.
    config : RunConfig
        What a run folder says of it.
    """

    autoencoder: Autoencoder
    pretrained: Autoencoder
    codes: Tensor
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
    origin: Mapping[str, Any] | None = None,
    pixel_range: tuple[float, float] = (0.0, 1.0),
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
        A network of the caller's own; copies of it are trained. `config.code_size` and `widths`
        are then not looked at.
    origin : mapping, optional
        How the images were opened, for the record.
    pixel_range : tuple of float
        The values of the caller's arrays that mean black and white, for the record.
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
    fabric = launch(config)
    architecture = (
        Architecture(images.shape, config.code_size, config.widths or ())
        if encoder is None
        else None
    )
    description = RunConfig(
        data={
            "source": images.name,
            **(origin or {}),
            "images": len(images),
            "skipped": len(images.skipped),
            "shape": list(images.shape),
        },
        train=asdict(config),
        architecture=architecture,
        pixel_range=pixel_range,
    )
    smallest = len(images) // -(-len(images) // config.batch_size)
    if smallest < fabric.world_size:
        raise NearfarError(
            f"batch_size={config.batch_size} for {len(images)} images: expected at least one image "
            f"in every batch for each of {fabric.world_size} processes"
        )
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = artifacts.build(description, encoder, decoder)
    code_size = _check_network(network, images)
    saved: dict[str, Tensor] = {}
    place: dict[str, Any] = {}
    log: list[dict[str, Any]] = []
    if resume and folder is not None:
        _check_continuation(folder, description)
        saved, place = artifacts.read_checkpoint(folder)
        log = [line for line in artifacts.read_log(folder) if _before(line, place)]
    if folder is not None and fabric.is_global_zero:
        if not resume:
            artifacts.claim_folder(folder, overwrite=overwrite)
        artifacts.write_config(folder, description)
        artifacts.write_log(folder, log)
    fabric.barrier()

    keeper = _Keeper(fabric, folder, log, on_epoch)
    with torch.random.fork_rng():
        pretrained = _train_phases(fabric, network, images, config, saved, place, keeper, track)
    codes = torch.zeros(len(images), code_size, device=fabric.device)
    rows = share(fabric, len(images))
    for indices, values in apply(
        network.encoder, images, device=fabric.device, rows=rows, track=track
    ):
        codes[indices.to(codes.device)] = values
    codes = all_sum(fabric, codes).cpu()
    if folder is not None and fabric.is_global_zero:
        artifacts.write_run(folder, description, network, pretrained, codes.numpy())
        artifacts.remove_checkpoint(folder)
    fabric.barrier()
    return Trained(network.cpu(), pretrained.cpu(), codes, log, description)


def _train_phases(
    fabric: Fabric,
    network: Autoencoder,
    images: Images,
    config: TrainConfig,
    saved: Mapping[str, Tensor],
    place: Mapping[str, Any],
    keeper: _Keeper,
    track: Track,
) -> Autoencoder:
    """Train `network` through both phases, or what is left of them; return the plain one."""

    def run(objective: Objective, epochs: int, lr: float, number: int) -> None:
        phase = Phase(
            fabric,
            network,
            objective,
            images,
            epochs=epochs,
            batch_size=config.batch_size,
            lr=lr,
            seed=(config.seed, number),
            listener=keeper,
            track=track,
        )
        continued = place.get("phase") == objective.name
        if continued:
            phase.load_state(saved)
        keeper.phase = objective.name
        phase.run(Position(place["epoch"], place["step"]) if continued else Position())

    if place.get("phase") == Relation.name:
        pretrained = copy.deepcopy(network).to(fabric.device)
        pretrained.load_state_dict(strip("pretrained.", saved))
    else:
        run(Reconstruction(), config.pretrain_epochs, config.pretrain_lr, 0)
        pretrained = copy.deepcopy(network)
    pretrained.eval()
    keeper.beside = {f"pretrained.{k}": v for k, v in pretrained.state_dict().items()}
    if config.epochs:
        reference = copy.deepcopy(pretrained.encoder)
        if place.get("phase") == Relation.name:
            reference.load_state_dict(strip("objective.reference.", saved))
        folder = keeper.folder
        bank = None if folder is None else artifacts.bank_folder(folder)
        relation = Relation(config, reference, images, fabric, folder=bank, track=track)
        run(relation, config.epochs, config.lr, 1)
    return pretrained


class _Keeper:
    """A `Listener` that keeps what a training goes through in its run folder, if it has one."""

    def __init__(
        self, fabric: Fabric, folder: Path | None, log: list[dict[str, Any]], on_epoch: OnEpoch
    ) -> None:
        self.folder, self.log = folder, log
        self.on_epoch, self.first = on_epoch, fabric.is_global_zero
        self.phase = ""
        self.beside: dict[str, Tensor] = {}

    def checkpoint(self, position: Position, state: Mapping[str, Tensor]) -> None:
        """See `Listener`."""
        if self.folder is not None and self.first:
            place = {"phase": self.phase, **asdict(position)}
            artifacts.write_checkpoint(self.folder, {**state, **self.beside}, place)

    def epoch(self, line: dict[str, Any]) -> None:
        """See `Listener`."""
        self.log.append(line)
        if self.first:
            if self.folder is not None:
                artifacts.append_log(self.folder, line)
            self.on_epoch(line)


def _before(line: Mapping[str, Any], place: Mapping[str, Any]) -> bool:
    """Whether a line of the log tells of an epoch that need not be trained again."""
    if line["phase"] != place["phase"]:
        return bool(line["phase"] == Reconstruction.name)
    return bool(line["epoch"] <= place["epoch"])


def _check_continuation(folder: Path, now: RunConfig) -> None:
    """Stop if a run was begun with other choices or other images."""
    before = artifacts.read_config(folder)
    if artifacts.is_finished(folder):
        raise NearfarError(f"run {str(folder)!r} is finished: there is nothing to resume")
    for name, value in TrainConfig.from_dict(before.train).__dict__.items():
        given = now.train[name]
        if name not in CHANGEABLE and given != value:
            raise NearfarError(
                f"run {str(folder)!r} was begun with {name}={value}, not {given}: "
                "resume it with the same choices"
            )
    for name in ("images", "shape"):
        if before.data[name] != now.data[name]:
            raise NearfarError(
                f"run {str(folder)!r} was begun on data with {name}={before.data[name]}, "
                f"not {now.data[name]}: resume it with the same images"
            )


def _check_network(network: Autoencoder, images: Images) -> int:
    """Return the length of a code, or stop if the network does not fit the images."""
    image = to_unit(images[0]).unsqueeze(0)
    try:
        with torch.no_grad():
            codes, reconstruction = network.eval()(image)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise NearfarError(
            f"the network does not take images of shape {images.shape}: {reason}"
        ) from error
    if reconstruction.shape != image.shape or codes.ndim != 2:
        raise NearfarError(
            f"the network makes codes {tuple(codes.shape)} and images "
            f"{tuple(reconstruction.shape)} of {tuple(image.shape)}: expected (1, d) and the same"
        )
    return int(codes.shape[1])
