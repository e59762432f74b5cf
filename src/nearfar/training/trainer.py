"""Training loop, which can be interrupted and resumed at any step.

The path of a batch from disk to loss:

1. `nearfar.data.load_batches` reads the images with the row numbers that a sampler yields.
2. `Trainer.fit` moves the images to the device and scales pixel values to [0, 1].
3. The objective augments or corrupts the images, runs the network, and returns the loss.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from nearfar.config import Optim
from nearfar.data import Images, load_batches, to_unit
from nearfar.errors import NearfarError
from nearfar.models import Autoencoder
from nearfar.progress import Track, silent
from nearfar.runs import Checkpoint, Cursor, Phase, RunFolder, add_prefix, strip_prefix
from nearfar.training.batch_sampler import EpochSampler, PairSampler
from nearfar.training.callbacks import Callback
from nearfar.training.distributed import broadcast_buffers
from nearfar.training.lr_schedule import lr_factor
from nearfar.training.metrics import EpochMetrics
from nearfar.training.objectives import Objective, PairedObjective
from nearfar.training.optimizer_state import load_optimizer, optimizer_tensors
from nearfar.training.signals import StopSignal, WaitInterrupted

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: Order of the phases. The number of a phase is part of all seeds in this phase.
PHASE_NUMBERS: dict[Phase, int] = {"pretrain": 0, "train": 1}


class Interrupted(KeyboardInterrupt):
    """Exception that is raised when training is interrupted, after a checkpoint is written.

    Examples
    --------
    >>> issubclass(Interrupted, KeyboardInterrupt)
    True
    """


class Trainer:
    """Training of a network, in place, with AdamW. `fit` trains for one phase.

    If the run is resumed, `fit` skips completed phases and continues from the checkpoint.

    Parameters
    ----------
    fabric : Fabric
        Device, precision and processes.
    network : Autoencoder
        Network to train.
    images : Images
        Training images.
    optim : Optim
        Batch sizes and learning rates.
    run : RunFolder
        Run folder for the log and checkpoints.
    seed : int
        Seed of the image order and of all random draws.
    callbacks : sequence of Callback
        Callbacks to call after each epoch, in the first process only.
    track : Track
        Progress display, see `nearfar.progress.Track`.

    Examples
    --------
    >>> from lightning_fabric import Fabric
    >>> from nearfar.config import TrainConfig
    >>> from nearfar.data import ArrayImages
    >>> from nearfar.runs import RunConfig, RunData, make_network
    >>> from nearfar.training import Context, Reconstruction
    >>> images, config = ArrayImages(torch.rand(20, 1, 8, 8)), TrainConfig()
    >>> fabric = Fabric(accelerator="cpu", devices=1)
    >>> network, run = make_network(config, images.shape), RunConfig(RunData.of(images), config)
    >>> trainer = Trainer(fabric, network, images, config.optim, RunFolder(None, run))
    >>> trainer.fit("pretrain", Reconstruction(Context(images, config, fabric)), epochs=2, lr=0.01)
    >>> len(trainer.run.log)
    2
    """

    def __init__(
        self,
        fabric: Fabric,
        network: Autoencoder,
        images: Images,
        optim: Optim,
        run: RunFolder,
        *,
        seed: int = 0,
        callbacks: Sequence[Callback] = (),
        track: Track = silent,
    ) -> None:
        self.fabric, self.network, self.images, self.optim = fabric, network, images, optim
        self.run, self.seed, self.callbacks, self.track = run, seed, callbacks, track
        self._initial: Autoencoder | None = None
        fabric.barrier()  # the first process may still be writing to the folder

    def fit(
        self,
        phase: Phase,
        objective: Objective,
        *,
        epochs: int,
        lr: float,
        head_lr: float | None = None,
    ) -> None:
        """Train the network with an objective for one phase.

        Parameters
        ----------
        phase : {"pretrain", "train"}
            Name of the phase in the log. Each phase has its own random numbers.
        objective : Objective
            Training objective.
        epochs : int
            Number of epochs.
        lr : float
            Peak learning rate.
        head_lr : float, optional
            Peak learning rate of all parameters outside the encoder. Default: `lr`.

        Raises
        ------
        NearfarError
            If the loss becomes NaN or infinite. The last checkpoint is from an earlier step.
        Interrupted
            After an interrupt or termination signal. A second signal interrupts immediately.
        """
        checkpoint = self.run.checkpoint
        if PHASE_NUMBERS[phase] < PHASE_NUMBERS[checkpoint.phase]:
            return
        start = checkpoint if checkpoint.phase == phase else Checkpoint(phase)
        self._prepare(phase, objective, epochs, start)
        self._make_optimizer(lr, head_lr, start)
        self.model.train()
        if start.cursor == Cursor():
            self._write_checkpoint(start.cursor)
        paired = isinstance(objective, PairedObjective)
        sampler = PairSampler(self.sampler, self._partners) if paired else self.sampler
        total = (epochs - start.cursor.epoch) * self.sampler.steps - start.cursor.step
        batches = load_batches(self.images, sampler, before_wait=self.stop_signal.before_wait)
        steps = self._steps(batches, start.cursor)
        with self.stop_signal.signals():
            try:
                for at, rows, pixels in self.track(steps, phase, total):
                    self._step(at, rows, to_unit(pixels.to(self.fabric.device)))
                    self._check(at)
            except WaitInterrupted:  # outside the epoch, which the last checkpoint ends
                self._stop()
        self.model.eval()

    def keep_initial(self) -> Autoencoder:
        """Return a copy of the network as it is now, at the start of the second phase.

        If the run is resumed in the second phase, the copy is read from the checkpoint.
        """
        initial = copy.deepcopy(self.network)
        if saved := strip_prefix("initial.", self.run.checkpoint.tensors):
            initial.load_state_dict(saved)
        self._initial = initial.to(self.fabric.device).eval()
        return self._initial

    def _prepare(self, phase: Phase, objective: Objective, epochs: int, start: Checkpoint) -> None:
        """Set up the objective, the sampler and the metrics, with the state of the checkpoint."""
        began = time.perf_counter()
        state = start.tensors
        self.phase, self.objective, self.epochs = phase, objective, epochs
        self.key = (self.seed, PHASE_NUMBERS[phase])
        rank, size = self.fabric.global_rank, self.fabric.world_size
        self.sampler = EpochSampler(len(self.images), self.optim.batch_size, self.key, rank, size)
        self.network.to(self.fabric.device)
        self.model: nn.Module = objective.setup(self.network, strip_prefix("objective.", state))
        self.wrapped = self.fabric.setup_module(self.model)
        self.setup_seconds = time.perf_counter() - began
        self.metrics = EpochMetrics(self.fabric)
        self.stop_signal = StopSignal(self.fabric)
        if metrics := strip_prefix("metrics.", state):
            self.metrics.load_state({k: v.to(self.fabric.device) for k, v in metrics.items()})

    def _make_optimizer(self, lr: float, head_lr: float | None, start: Checkpoint) -> None:
        """Set up the optimizer, with different learning rates inside and outside the encoder.

        The state of the optimizer in the checkpoint is restored, if there is one.
        """
        other = lr if head_lr is None else head_lr
        rates = {id(each): lr for each in self.network.encoder.parameters()}
        parameters = list(self.model.parameters())
        # In the model's order, by which checkpoints number the parameters.
        groups = [
            {"params": list(group), "initial_lr": rate}
            for rate, group in groupby(parameters, lambda each: rates.get(id(each), other))
        ]
        self.adam = torch.optim.AdamW(groups, weight_decay=self.optim.weight_decay)
        self.optimizer = cast(torch.optim.Optimizer, self.fabric.setup_optimizers(self.adam))
        if saved := strip_prefix("adam.", start.tensors):
            load_optimizer(self.adam, saved)

    def _steps(self, batches: Any, start: Cursor) -> Iterator[tuple[Cursor, Tensor, Tensor]]:
        """Yield the position, the row numbers and the images of each batch, from `start` on.

        At the start and the end of each epoch, the objective and the metrics are updated.
        """
        for epoch in range(start.epoch, self.epochs):
            first = start.step if epoch == start.epoch else 0
            self.sampler.epoch, self.sampler.first_step = epoch, first
            if first == 0:
                self.metrics = EpochMetrics(self.fabric, 0.0 if epoch else self.setup_seconds)
                self.objective.start_epoch(epoch)
            done = first
            try:
                for rows, pixels in batches:
                    yield Cursor(epoch, done), rows, pixels
                    done += 1
            except WaitInterrupted:
                if done < self.sampler.steps:
                    if done > first:
                        self._write_checkpoint(Cursor(epoch, done))
                    self._stop()
            self._end_epoch(epoch)

    def _step(self, at: Cursor, rows: Tensor, images: Tensor) -> None:
        """Train on one batch: set the learning rate, compute gradients, and update the weights."""
        self._seed(at)
        size = self.sampler.batch_size(at.step)
        epoch = at.epoch + at.step / self.sampler.steps
        factor = lr_factor(self.optim.lr_schedule, epoch / self.epochs)
        for group in self.adam.param_groups:
            group["lr"] = group["initial_lr"] * factor
        self.optimizer.zero_grad()
        # The same number in every process, since objectives may wait for each other.
        parts = min(self.optim.accumulate, size // self.fabric.world_size)
        split = zip(rows.tensor_split(parts), images.tensor_split(parts), strict=True)
        for i, (part, pixels) in enumerate(split, start=1):
            with self.fabric.no_backward_sync(self.wrapped, enabled=i < parts):
                result = self.objective(self.wrapped, part, pixels, epoch)
                # Gradients are averaged over processes and summed over parts; this weight makes
                # them the mean over all images.
                self.fabric.backward(result.loss * (len(part) * self.fabric.world_size / size))
            self.metrics.add(result)
        self.optimizer.step()

    def _partners(self, rows: Tensor, step: int) -> Tensor:
        """Return the second row of each pair in a batch of the current epoch."""
        seed = self._step_seed(Cursor(self.sampler.epoch, step), 1)
        generator = torch.Generator().manual_seed(seed)
        return cast(PairedObjective, self.objective).partners(rows, generator)

    def _step_seed(self, at: Cursor, *use: int) -> int:
        """Return a seed that depends only on the step and the purpose, so runs can be resumed."""
        key = (*self.key, at.epoch, at.step, self.fabric.global_rank)
        return int(np.random.SeedSequence(key, spawn_key=use).generate_state(1)[0])

    def _seed(self, at: Cursor) -> None:
        """Set the seed for the random draws of a step."""
        number = self._step_seed(at)
        if self.fabric.device.type == "cpu":
            torch.default_generator.manual_seed(number)  # torch.manual_seed takes 30 times as long
        else:
            torch.manual_seed(number)

    def _check(self, at: Cursor) -> None:
        """Write a checkpoint if due, and stop if a signal arrived or the loss is not finite."""
        done = at.step + 1
        if done == self.sampler.steps or not self.stop_signal.is_time(done):
            return
        self._check_loss(at.epoch)
        decision = self.stop_signal.check()
        if decision.stop or decision.due:
            self._write_checkpoint(Cursor(at.epoch, done))
        if decision.stop:
            self._stop()

    def _end_epoch(self, epoch: int) -> None:
        seconds = self.metrics.seconds()
        self._check_loss(epoch)
        broadcast_buffers(self.fabric, self.model)
        line = {
            "phase": self.phase,
            "epoch": epoch + 1,
            **self.metrics.means(),
            "dead_units": self.metrics.dead_units(),
            "effective_rank": self.metrics.effective_rank(),
            "seconds": seconds,
            "images_per_second": len(self.images) / seconds,
        }
        callbacks = self.callbacks if self.fabric.is_global_zero else ()
        for callback in callbacks:
            line |= callback.measure(self)
        self.run.append_log(line)
        for callback in callbacks:
            callback.on_epoch_end(self, line)
        self._write_checkpoint(Cursor(epoch + 1))
        if self.stop_signal.check().stop:
            self._stop()

    def _stop(self) -> None:
        self.fabric.barrier()  # the first process may still be writing
        raise Interrupted

    def _check_loss(self, epoch: int) -> None:
        if not math.isfinite(self.metrics.means()["loss"]):
            raise NearfarError(
                f"the loss is no longer finite in epoch {epoch + 1} of phase {self.phase!r}: the "
                "last checkpoint is from before; try again with a lower learning rate"
            )

    def _write_checkpoint(self, cursor: Cursor) -> None:
        if cursor != Cursor():
            self._check_loss(cursor.epoch)
        initial = {} if self._initial is None else self._initial.state_dict()
        tensors = {
            **add_prefix("network.", self.network.state_dict()),
            **add_prefix("adam.", optimizer_tensors(self.adam)),
            **add_prefix("objective.", self.objective.state()),
            **add_prefix("metrics.", self.metrics.state()),
            **add_prefix("initial.", initial),
        }
        self.run.write_checkpoint(Checkpoint(self.phase, cursor, tensors))
        self.stop_signal.saved()
