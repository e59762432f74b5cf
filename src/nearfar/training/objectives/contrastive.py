"""Contrastive objective on augmented views of images, with near and far samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from nearfar.augmentation import make_augmentation
from nearfar.config import ContrastiveObjective
from nearfar.models import (
    PROJECTION_SIZE,
    Autoencoder,
    embedding_size,
    projection_head,
    state_bytes,
)
from nearfar.neighbors import (
    HELD_KEYS_BYTES,
    ClusteredFinder,
    Cosine,
    allocate_rows,
    finder_cost,
)
from nearfar.pretext import make_corruption, pixel_errors
from nearfar.randomness import own_random_numbers
from nearfar.runs import strip_prefix
from nearfar.training.distributed import fill_bank, gather_rows, search_all, workers
from nearfar.training.objectives.base import Context, Footprint, PairedObjective, Step, Work
from nearfar.training.objectives.distillation import Distillation
from nearfar.training.objectives.losses import contrastive_loss


class Contrastive(PairedObjective):
    """Contrastive objective, with nearest neighbors as positives and far images as negatives.

    Two views of each image are encoded and projected. The positive of a view is another view of the
    same image or, after the first neighbor search, a view of one of the T nearest neighbors of the
    image. The negatives are the views in the batch that belong to distant clusters or, before the
    first neighbor search, all other views. Clusters and neighbors are updated every few epochs from
    the current projections. With a pretext task, both views are corrupted before they are encoded.

    The decoder reconstructs the first view. For a share of the images, the first view is the
    original image. If the pixel weight is 0, no decoder is trained. If the distillation weight is
    positive, the embeddings are kept close to those of the pretrained encoder from which training
    starts, see `Distillation`.

    Parameters
    ----------
    context : Context
        Images, settings and hardware of the training run. `context.config.objective` is a
        `ContrastiveObjective`.

    Raises
    ------
    NearfarError
        If there are too few images.

    Examples
    --------
    >>> from nearfar import recipe, train
    >>> from nearfar.data import ArrayImages
    >>> images = ArrayImages(torch.rand(20, 1, 8, 8))
    >>> run = train(images, recipe("nearfar", epochs=1, clusters=2))
    >>> sorted({"contrastive", "pixel"} & run.log[0].keys())
    ['contrastive', 'pixel']
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.settings = settings = cast(ContrastiveObjective, context.config.objective)
        self.augmentation = make_augmentation(settings.augmentation, context.images)
        if context.config.optim.epochs:
            self._new_finder().check(len(context.images))
        self.distillation = Distillation(context) if settings.distill_weight else None
        self.bank: Tensor | None = None
        self.finder: ClusteredFinder | None = None

    def _new_finder(self) -> ClusteredFinder:
        settings = self.settings
        return ClusteredFinder(
            settings.neighbors,
            settings.clusters,
            settings.far_share,
            seed=self.context.config.seed,
        )

    def footprint(self, network: Autoencoder) -> Footprint:
        """See `Objective.footprint`."""
        teacher = self.distillation.footprint(network.encoder).memory if self.distillation else 0
        if not self.settings.refresh_neighbors_every:
            return Footprint(teacher)
        bank = 4 * len(self.context.images) * PROJECTION_SIZE
        keys = bank if bank <= HELD_KEYS_BYTES else 0
        # The bank, its keys if kept in memory, and the queries.
        return Footprint(teacher + bank + keys + bank, {}, bank + state_bytes(network.encoder))

    def work(self, network: Autoencoder) -> Mapping[str, Work]:
        """See `Objective.work`."""
        n, epochs = len(self.context.images), self.context.config.optim.epochs
        every = self.settings.refresh_neighbors_every
        fits = (epochs - 1) // every if every else 0
        cost = finder_cost(self._new_finder(), n, PROJECTION_SIZE, fits=fits, searches=fits)
        work = {"bank": Work(fits), "clusters and neighbors": Work(multiplications=cost)}
        if self.distillation is not None:
            work["distillation"] = Work(self.distillation.factor**2)
        return work

    def setup(self, network: Autoencoder, state: Mapping[str, Tensor]) -> nn.Module:
        """See `Objective.setup`."""
        config, device = self.context.config, self.context.fabric.device
        self.network = network
        self.corruption = make_corruption(config.pretext, network)
        with own_random_numbers(config.seed):
            size = embedding_size(network.encoder, self.context.images)
            self.head = projection_head(size).to(device)
        if saved := strip_prefix("head.", state):
            self.head.load_state_dict(saved)
        if self.distillation is not None:
            self.distillation.setup()
        if "bank" in state:
            self._search(state["bank"].to(device))
        decoder = network.decoder if self.settings.pixel_weight else None
        return _Projected(network.encoder, decoder, self.head)

    def start_epoch(self, epoch: int) -> None:
        """Search for neighbors with the current projections if an update is due in this epoch."""
        every = self.settings.refresh_neighbors_every
        if every > 0 and epoch > 0 and epoch % every == 0:
            self.bank = self.finder = None  # freed first, so that two never coexist
            self._search(self._make_bank())

    @torch.no_grad()
    def _make_bank(self) -> Tensor:
        """Return the projections of all images, float[n, 64]."""
        encoder, images, fabric = self.network.encoder, self.context.images, self.context.fabric
        projected = nn.Sequential(encoder, self.head)
        training = encoder.training
        projected.eval()
        bank = allocate_rows(len(images), PROJECTION_SIZE, fabric.device)
        fill_bank(bank, projected, images, fabric, self.context.track)
        projected.train(training)
        return bank

    def _search(self, bank: Tensor) -> None:
        fabric = self.context.fabric
        self.bank = bank
        self.finder = self._new_finder().fit(bank, Cosine(), workers(fabric))
        count, track = self.settings.neighbors, self.context.track
        found = search_all(self.finder, bank, count, 0, fabric, track)
        # On the CPU, where partners are drawn, since each step would otherwise wait for a GPU.
        self.near = found.near.cpu()

    def partners(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """See `PairedObjective.partners`. The partner is the same image or one of its neighbors."""
        if self.bank is None:
            return rows
        chosen = torch.rand(len(rows), generator=generator) < self.settings.neighbor_prob
        drawn = torch.randint(self.settings.neighbors, rows.shape, generator=generator)
        return torch.where(chosen, self.near[rows, drawn], rows)

    def __call__(self, model: nn.Module, rows: Tensor, images: Tensor, epoch: float) -> Step:
        """See `Objective`."""
        first, second = (self.augmentation(each) for each in images.unbind(1))
        if self.settings.identity_prob:
            identity = torch.rand(len(first), device=first.device) < self.settings.identity_prob
            first = torch.where(identity.view(-1, 1, 1, 1), images[:, 0], first)
        with self.context.fabric.autocast():
            seen = [self.corruption(view) for view in (first, second)]
        embeddings: Tensor
        reconstruction: Tensor | None
        embeddings, reconstruction, projections = model(*(each.images for each in seen))
        first_rows, second_rows = rows.unbind(1)
        far = (
            None
            if self.finder is None
            else self.finder.are_far(self._gather(first_rows, second_rows))
        )
        own, near = self._gather(*projections.float().chunk(2)).chunk(2)
        loss = relation = contrastive_loss(own, near, far, self.settings.temperature)
        terms = {"contrastive": relation.detach()}
        if reconstruction is not None:
            weighted, pixel = pixel_errors(reconstruction, first, seen[0])
            loss = relation + self.settings.pixel_weight * weighted
            terms["pixel"] = pixel.detach()
        if self.distillation is not None:
            distance = self.distillation(embeddings, torch.cat([first_rows, second_rows]))
            loss = loss + self.settings.distill_weight * distance
            terms["distillation"] = distance.detach()
        return Step(loss, embeddings[: len(first)], terms)

    def _gather(self, first: Tensor, second: Tensor) -> Tensor:
        """Return `first` from all processes, followed by `second` from all processes."""
        fabric = self.context.fabric
        return torch.cat([gather_rows(fabric, each.to(fabric.device)) for each in (first, second)])

    def state(self) -> Mapping[str, Tensor]:
        """See `Objective.state`."""
        state = {f"head.{name}": value for name, value in self.head.state_dict().items()}
        return state if self.bank is None else {**state, "bank": self.bank}


class _Projected(nn.Module):
    """Encoder with a projection head and, optionally, a decoder."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module | None, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder, self.head = encoder, decoder, head

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return the embeddings, reconstructions and projections of two views.

        Only the first view is reconstructed. Reconstructions are None if there is no decoder.
        """
        embeddings = self.encoder(torch.cat([first, second]))
        own = embeddings[: len(first)]
        reconstruction = None if self.decoder is None else self.decoder(own)
        return embeddings, reconstruction, self.head(embeddings)
