"""Contrastive training between augmented views, with near and far samples from the data."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nearfar.augmentation import make_augmentation
from nearfar.config import ContrastiveObjective
from nearfar.models import (
    PROJECTION_SIZE,
    Autoencoder,
    Output,
    embedding_size,
    projection_head,
    state_bytes,
)
from nearfar.neighbors import HELD_KEYS_BYTES, ClusteredFinder, Cosine, allocate_rows
from nearfar.pretext import make_corruption, pixel_errors
from nearfar.randomness import own_random_numbers
from nearfar.runs import strip_prefix
from nearfar.training.distributed import all_rows, fill_bank, search_all, workers
from nearfar.training.objectives.base import Context, Footprint, PairedObjective, Step
from nearfar.training.objectives.losses import contrastive_loss


class Contrastive(PairedObjective):
    """Contrastive loss on projections, with positives from the nearest neighbors of the data.

    The positive of an image is another view of it or, once neighbors have been searched, a view of
    one of its T nearest neighbors. Its negatives are the images of the batch from clusters that are
    far from its own. Clusters and neighbors are searched every few epochs in the projections of
    that time. With a pretext task, the network sees both views corrupted. The decoder reconstructs
    the first view, or for some images the image itself.

    Raises
    ------
    NearfarError
        If there are too few images.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        settings = context.config.objective
        assert isinstance(settings, ContrastiveObjective)  # noqa: S101 - for the type
        self.settings = settings
        self.augmentation = make_augmentation(settings.augmentation, context.images.shape)
        if context.config.optim.epochs:
            self._new_finder().check(len(context.images))
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
        """See `Objective`."""
        if not self.settings.refresh_neighbors_every:
            return Footprint()
        bank = 4 * len(self.context.images) * PROJECTION_SIZE
        keys = bank if bank <= HELD_KEYS_BYTES else 0
        # The bank, its keys if they are held, and the directions that are searched for.
        return Footprint(bank + keys + bank, {}, bank + state_bytes(network.encoder))

    def setup(self, network: Autoencoder, state: Mapping[str, Tensor]) -> nn.Module:
        """See `Objective`."""
        config, device = self.context.config, self.context.fabric.device
        self.network = network
        self.corruption = make_corruption(config.pretext, network)
        with own_random_numbers(config.seed):
            size = embedding_size(network.encoder, self.context.images)
            self.head = projection_head(size).to(device)
        if saved := strip_prefix("head.", state):
            self.head.load_state_dict(saved)
        if "bank" in state:
            self._search(state["bank"].to(device))
        return _Projected(network, self.head)

    def start_epoch(self, epoch: int) -> None:
        """Search for neighbors in the projections as they are now, if due."""
        every = self.settings.refresh_neighbors_every
        if every > 0 and epoch > 0 and epoch % every == 0:
            self.bank = self.finder = None  # free them first, so that two never coexist
            self._search(self._make_bank())

    @torch.no_grad()
    def _make_bank(self) -> Tensor:
        """Compute projections of all images, float[n, p]."""
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
        # On the CPU, where partners are drawn: each step would wait for a GPU.
        self.near = found.near.cpu()

    def partners(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """See `PairedObjective`: the image itself, or one of its neighbors."""
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
        output: Output
        output, projections = model(*(corrupted.images for corrupted in seen))
        far = None if self.finder is None else self.finder.are_far(self._gather(*rows.unbind(1)))
        own, near = self._gather(*projections.float().chunk(2)).chunk(2)
        relation = contrastive_loss(own, near, far, self.settings.temperature)
        weighted, pixel = pixel_errors(output.reconstruction, first, seen[0])
        loss = relation + self.settings.pixel_weight * weighted
        terms = {"contrastive": relation.detach(), "pixel": pixel.detach()}
        return Step(loss, output.embeddings, terms)

    def _gather(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the rows of the first views in all processes, then those of the second ones."""
        fabric = self.context.fabric
        return torch.cat([all_rows(fabric, each.to(fabric.device)) for each in (first, second)])

    def state(self) -> Mapping[str, Tensor]:
        """See `Objective`."""
        state = {f"head.{name}": value for name, value in self.head.state_dict().items()}
        return state if self.bank is None else {**state, "bank": self.bank}


class _Projected(nn.Module):
    """A network with the projection head that is trained beside it."""

    def __init__(self, network: Autoencoder, head: nn.Module) -> None:
        super().__init__()
        self.network, self.head = network, head

    def forward(self, first: Tensor, second: Tensor) -> tuple[Output, Tensor]:
        """Return embeddings and reconstruction of the first views, and projections of both."""
        embeddings = self.network.encoder(torch.cat([first, second]))
        own = embeddings[: len(first)]
        return Output(own, self.network.decoder(own)), self.head(embeddings)
