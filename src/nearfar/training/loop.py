"""The training loop: one objective for some epochs, interruptible at any step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from nearfar.data import Images, to_unit
from nearfar.data.loader import load
from nearfar.errors import NearfarError
from nearfar.models import Autoencoder
from nearfar.progress import Track, silent
from nearfar.training.adam import adam_tensors, load_adam
from nearfar.training.objective import Objective, Paired
from nearfar.training.order import Order, Pairs
from nearfar.training.processes import share_buffers
from nearfar.training.rates import RateSchedule, rate_at
from nearfar.training.record import Record
from nearfar.training.watch import Watch


class Interrupted(KeyboardInterrupt):
    """Training was stopped from outside, after a checkpoint was offered to the listener."""


@dataclass(frozen=True)
class Position:
    """The next step of a phase."""

    epoch: int = 0
    step: int = 0


class Listener(Protocol):
    """What is told of the progress of training."""

    def checkpoint(self, position: Position, state: Mapping[str, Tensor]) -> None:
        """Keep what is needed to continue from `position`."""
        ...

    def epoch(self, line: dict[str, Any]) -> None:
        """Take note of an epoch's record."""
        ...


class Phase:
    """Training of a network for one objective with AdamW, which is Adam without weight decay.

    Parameters
    ----------
    model : Autoencoder
        Trained in place.
    batch_size : int
        Over all processes together.
    accumulate : int
        Parts in which this process sees its images of a step.
    seed : tuple of int
        Decides the order of the images and whatever random numbers the network draws.
    prepared : float
        Seconds that the making of the objective took: the first epoch takes them, too.
    """

    def __init__(
        self,
        fabric: Fabric,
        model: Autoencoder,
        objective: Objective,
        images: Images,
        *,
        epochs: int,
        batch_size: int,
        lr: float,
        seed: tuple[int, ...],
        accumulate: int = 1,
        weight_decay: float = 0.0,
        lr_schedule: RateSchedule = "constant",
        prepared: float = 0.0,
        listener: Listener,
        track: Track = silent,
    ) -> None:
        self.fabric, self.model, self.objective, self.images = fabric, model, objective, images
        self.epochs, self.seed, self.listener, self.track = epochs, seed, listener, track
        self.order = Order(len(images), batch_size, seed, fabric.global_rank, fabric.world_size)
        self.trained = objective.extend(model)
        self.wrapped = fabric.setup_module(self.trained)
        self.lr, self.lr_schedule, self.accumulate = lr, lr_schedule, accumulate
        self.adam = torch.optim.AdamW(self.trained.parameters(), lr=lr, weight_decay=weight_decay)
        self.optimizer = cast(torch.optim.Optimizer, fabric.setup_optimizers(self.adam))
        self.prepared = prepared
        self.record = Record(fabric)
        self.watch = Watch(fabric)

    def run(self, position: Position = Position()) -> None:
        """Train from `position` to the end.

        Raises
        ------
        NearfarError
            If the loss is no longer finite; the last checkpoint is from before.
        Interrupted
            After an interrupt or termination signal; a second signal interrupts at once.
        """
        self.trained.train()
        if position == Position():
            self.listener.checkpoint(position, self._state())
        paired = isinstance(self.objective, Paired)
        batches = load(self.images, Pairs(self.order, self._partners) if paired else self.order)
        total = (self.epochs - position.epoch) * self.order.steps - position.step
        steps = self._steps(batches, position)
        with self.watch.signals():
            for at, rows, pixels in self.track(steps, self.objective.name, total):
                self._step(at, rows, to_unit(pixels.to(self.fabric.device)))
                self._look(at)
        self.trained.eval()

    def _steps(self, batches: Any, position: Position) -> Iterator[tuple[Position, Tensor, Tensor]]:
        """Every batch from `position` on; an epoch is closed before the next one begins."""
        for epoch in range(position.epoch, self.epochs):
            first = position.step if epoch == position.epoch else 0
            self.order.epoch, self.order.first_step = epoch, first
            if first == 0:
                self.record = Record(self.fabric, 0.0 if epoch else self.prepared)
                self.objective.start_epoch(epoch, self.model.encoder)
            for step, (rows, pixels) in enumerate(batches, start=first):
                yield Position(epoch, step), rows, pixels
            self._close_epoch(epoch)

    def _step(self, at: Position, rows: Tensor, images: Tensor) -> None:
        self._seed_networks(at)
        size = self.order.batch_size(at.step)
        epoch = at.epoch + at.step / self.order.steps
        for group in self.adam.param_groups:
            group["lr"] = self.lr * rate_at(self.lr_schedule, epoch / self.epochs)
        self.optimizer.zero_grad()
        # As many in every process: objectives may wait for each other.
        parts = min(self.accumulate, size // self.fabric.world_size)
        split = zip(rows.tensor_split(parts), images.tensor_split(parts), strict=True)
        for i, (some, pixels) in enumerate(split, start=1):
            with self.fabric.no_backward_sync(self.wrapped, enabled=i < parts):
                result = self.objective(self.wrapped, some, pixels, epoch)
                # Gradients are averaged over processes, and summed over parts: the weight makes
                # that the mean over all images.
                self.fabric.backward(result.loss * (len(some) * self.fabric.world_size / size))
            self.record.add(result)
        self.optimizer.step()

    def _partners(self, rows: Tensor, step: int) -> Tensor:
        """Draw what is seen beside the images of a step of the present epoch, long before it."""
        seed = self._step_seed(Position(self.order.epoch, step), 1)
        generator = torch.Generator().manual_seed(seed)
        return cast(Paired, self.objective).partners(rows, generator)

    def _step_seed(self, at: Position, *use: int) -> int:
        """Return a seed that depends on the step and the use alone, for resuming."""
        key = (*self.seed, at.epoch, at.step, self.fabric.global_rank)
        return int(np.random.SeedSequence(key, spawn_key=use).generate_state(1)[0])

    def _seed_networks(self, at: Position) -> None:
        """Decide what networks draw at random in a step."""
        number = self._step_seed(at)
        if self.fabric.device.type == "cpu":
            torch.default_generator.manual_seed(number)  # torch.manual_seed takes 30 times as long
        else:
            torch.manual_seed(number)

    def _look(self, at: Position) -> None:
        """Stop if asked to, or if the loss is not finite; keep a checkpoint if one is due."""
        done = at.step + 1
        if done == self.order.steps or not self.watch.is_time(done):
            return
        self._check_loss(at.epoch)
        seen = self.watch.look()
        if seen.stop or seen.due:
            self._checkpoint(Position(at.epoch, done))
        if seen.stop:
            self._stop()

    def _close_epoch(self, epoch: int) -> None:
        seconds = self.record.seconds()
        self._check_loss(epoch)
        share_buffers(self.fabric, self.trained)
        line = {
            "phase": self.objective.name,
            "epoch": epoch + 1,
            **self.record.means(),
            "dead_units": self.record.dead_units(),
            "effective_rank": self.record.effective_rank(),
            "seconds": seconds,
            "images_per_second": len(self.images) / seconds,
        }
        self.listener.epoch(line)
        self._checkpoint(Position(epoch + 1))
        if self.watch.look().stop:
            self._stop()

    def _stop(self) -> None:
        self.fabric.barrier()  # the first process may still be writing
        raise Interrupted

    def _check_loss(self, epoch: int) -> None:
        if not math.isfinite(self.record.means()["loss"]):
            raise NearfarError(
                f"the loss is no longer finite in epoch {epoch + 1} of phase "
                f"{self.objective.name!r}: the last checkpoint is from before; "
                "try again with a lower learning rate"
            )

    def _checkpoint(self, position: Position) -> None:
        self._check_loss(position.epoch)
        self.listener.checkpoint(position, self._state())
        self.watch.saved()

    def _state(self) -> dict[str, Tensor]:
        return {
            **_prefixed("model.", self.model.state_dict()),
            **_prefixed("adam.", adam_tensors(self.adam)),
            **_prefixed("objective.", self.objective.state()),
            **_prefixed("record.", self.record.state()),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what the listener was given to keep, where the model does already."""
        self.objective.load_state(strip("objective.", state))
        on_device = {k: v.to(self.fabric.device) for k, v in strip("record.", state).items()}
        self.record.load_state(on_device)
        load_adam(self.adam, strip("adam.", state))


def strip(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names start with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + k: v for k, v in tensors.items()}
