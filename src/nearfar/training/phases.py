"""The two phases of a training, one after the other or from where they were stopped."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from torch import Tensor, nn

from nearfar import runs
from nearfar.data import Images
from nearfar.errors import NearfarError
from nearfar.models import Autoencoder
from nearfar.progress import Track
from nearfar.training.config import TrainConfig
from nearfar.training.contrastive import CodeRelation
from nearfar.training.loop import Phase, Position, strip
from nearfar.training.objective import Objective, Reconstruction, make_corruption
from nearfar.training.relation import Relation

OnEpoch = Callable[[dict[str, Any]], None]
MakeObjective = Callable[[TrainConfig, Images, Fabric], Objective]


@dataclass(frozen=True)
class Checkpoint:
    """Where a training was stopped, and what it needs to go on; by default at its beginning."""

    phase: str = Reconstruction.name
    position: Position = Position()
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def is_within(self, phase: str) -> bool:
        """Whether it holds what that phase needs to go on."""
        return phase == self.phase and bool(self.tensors)

    @classmethod
    def read(cls, folder: Path) -> Checkpoint:
        """Read the checkpoint of a run."""
        tensors, place = runs.read_checkpoint(folder)
        return cls(place["phase"], Position(place["epoch"], place["step"]), tensors)

    def check_ahead(self, folder: Path, config: TrainConfig) -> None:
        """Refuse to go on to fewer epochs than are trained, or to another plain autoencoder.

        Raises
        ------
        NearfarError
            If `config` asks for that.
        """
        begun = self.position.epoch + (self.position.step > 0)
        relating = self.phase == Relation.name
        if relating:
            before = [line for line in runs.read_log(folder) if line["phase"] != self.phase]
            if config.pretrain_epochs != len(before):
                raise NearfarError(
                    f"run {str(folder)!r} has had its {len(before)} epochs of pre-training, not "
                    f"{config.pretrain_epochs}: resume it with as many"
                )
        asked = config.epochs if relating else config.pretrain_epochs
        if asked < begun:
            raise NearfarError(
                f"run {str(folder)!r} is in epoch {begun} of {self.phase!r}, which was to have "
                f"{asked}: resume it with as many or more"
            )

    def is_after(self, line: Mapping[str, Any]) -> bool:
        """Whether the epoch that a line of the log tells of need not be trained again."""
        if line["phase"] != self.phase:
            return bool(line["phase"] == Reconstruction.name)
        return bool(line["epoch"] <= self.position.epoch)


@dataclass(frozen=True)
class Keeper:
    """A `Listener` that keeps what a phase goes through in the run folder, if there is one.

    Parameters
    ----------
    epochs_before : int
        How many epochs were trained in the phases before.
    snapshots : collection of int
        After how many epochs in all the network is kept as it is then.
    log : list of dict
        Gets the lines of the log.
    beside : mapping of str to Tensor
        What else a checkpoint of this phase has to hold.
    """

    phase: str
    epochs_before: int
    fabric: Fabric
    folder: Path | None
    snapshots: Collection[int]
    log: list[dict[str, Any]]
    on_epoch: OnEpoch
    beside: Mapping[str, Tensor]

    def checkpoint(self, position: Position, state: Mapping[str, Tensor]) -> None:
        """See `Listener`."""
        if self.folder is not None and self.fabric.is_global_zero:
            epochs = self.epochs_before + position.epoch
            if position.step == 0 and epochs in self.snapshots:
                runs.write_snapshot(self.folder, epochs, strip("model.", state))
            place = {"phase": self.phase, **asdict(position)}
            runs.write_checkpoint(self.folder, {**state, **self.beside}, place)

    def epoch(self, line: dict[str, Any]) -> None:
        """See `Listener`."""
        self.log.append(line)
        if self.fabric.is_global_zero:
            if self.folder is not None:
                runs.append_log(self.folder, line)
            self.on_epoch(line)


@dataclass(frozen=True)
class Phases:
    """A network's way through plain autoencoding and relational training.

    Parameters
    ----------
    network : Autoencoder
        Trained in place; with the weights of `checkpoint`, if it holds any.
    reference : nn.Module, optional
        The frozen encoder that reconstructions are related in; that of the plain autoencoder if
        not given.
    objective : callable, optional
        Makes what the second phase trains for, instead of the relation that `config` asks for.
    """

    fabric: Fabric
    network: Autoencoder
    images: Images
    config: TrainConfig
    folder: Path | None
    snapshots: Collection[int]
    log: list[dict[str, Any]]
    on_epoch: OnEpoch
    track: Track
    checkpoint: Checkpoint
    reference: nn.Module | None = None
    objective: MakeObjective | None = None

    def run(self) -> Autoencoder:
        """Train through what is left; return the plain autoencoder that the relations build on."""
        if self.checkpoint.phase == Reconstruction.name:
            config = self.config
            plain = Reconstruction(make_corruption(config, self.network))
            self._run(plain, config.pretrain_epochs, config.pretrain_lr, number=0)
        pretrained = copy.deepcopy(self.network)
        if self.checkpoint.is_within(Relation.name):
            pretrained.load_state_dict(strip("pretrained.", self.checkpoint.tensors))
        pretrained.to(self.fabric.device).eval()
        if self.config.epochs:
            self._relate(pretrained)
        return pretrained

    def _relate(self, pretrained: Autoencoder) -> None:
        began = time.perf_counter()
        objective = self._make_relational(pretrained)
        self._run(
            objective,
            self.config.epochs,
            self.config.lr,
            number=1,
            pretrained=pretrained,
            prepared=time.perf_counter() - began,
        )

    def _make_relational(self, pretrained: Autoencoder) -> Objective:
        if self.objective is not None:
            return self.objective(self.config, self.images, self.fabric)
        if self.config.relation == "reconstructions":
            return self._relation_of_reconstructions(pretrained)
        return CodeRelation(
            self.config, pretrained.encoder, self.images, self.fabric, track=self.track
        )

    def _relation_of_reconstructions(self, pretrained: Autoencoder) -> Relation:
        reference = copy.deepcopy(self.reference or pretrained.encoder)
        if self.checkpoint.is_within(Relation.name):
            reference.load_state_dict(strip("objective.reference.", self.checkpoint.tensors))
        bank = None if self.folder is None else runs.bank_folder(self.folder)
        return Relation(
            self.config, reference, self.images, self.fabric, folder=bank, track=self.track
        )

    def _run(
        self,
        objective: Objective,
        epochs: int,
        lr: float,
        number: int,
        pretrained: Autoencoder | None = None,
        prepared: float = 0.0,
    ) -> None:
        beside = {} if pretrained is None else pretrained.state_dict(prefix="pretrained.")
        phase = Phase(
            self.fabric,
            self.network,
            objective,
            self.images,
            epochs=epochs,
            batch_size=self.config.batch_size,
            accumulate=self.config.accumulate,
            lr=lr,
            weight_decay=self.config.weight_decay,
            lr_schedule=self.config.lr_schedule,
            seed=(self.config.seed, number),
            prepared=prepared,
            listener=Keeper(
                objective.name,
                number * self.config.pretrain_epochs,
                self.fabric,
                self.folder,
                self.snapshots,
                self.log,
                self.on_epoch,
                beside,
            ),
            track=self.track,
        )
        if self.checkpoint.is_within(objective.name):
            phase.load_state(self.checkpoint.tensors)
            phase.run(self.checkpoint.position)
        else:
            phase.run()
