"""Contrastive training between augmented views, with near and far samples from the data."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from nearfar.augmentation import Augmentation, make_augmentation
from nearfar.data import Images
from nearfar.models import Autoencoder, Output, embedding_size, projection_head
from nearfar.neighbors import ClusteredFinder, Cosine, allocate_rows
from nearfar.progress import Track, silent
from nearfar.relational.contrast import contrastive_loss
from nearfar.training.config import TrainConfig
from nearfar.training.loop import strip
from nearfar.training.objective import Step, make_corruption, pixel_errors
from nearfar.training.processes import all_rows, fill_bank, search_all, workers


class CodeRelation:
    """Relations between the embeddings that are being trained, seen through random views.

    The near sample of an image is another view of it or, once the embeddings mean something, a view
    of one of its T nearest neighbors in the data; its far samples are the images of the batch from
    the clusters that are far from its own. Clusters and neighbors are found anew every `refresh`
    epochs, in the projections of that time. On top of a pretext with a corruption, the network sees
    both views corrupted. The decoder reconstructs the first view, or for some the image.
    """

    name = "relational"

    def __init__(
        self,
        config: TrainConfig,
        encoder: nn.Module,
        images: Images,
        fabric: Fabric,
        *,
        track: Track = silent,
    ) -> None:
        self.config, self.images, self.fabric, self.track = config, images, fabric, track
        self.views: Augmentation = make_augmentation(config.views, images.shape)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.head = projection_head(embedding_size(encoder, images)).to(fabric.device)
        self.bank: Tensor | None = None
        self.finder: ClusteredFinder | None = None

    def extend(self, network: Autoencoder) -> nn.Module:
        """See `Objective`."""
        self.corruption = make_corruption(self.config, network)
        return _Projected(network, self.head)

    def start_epoch(self, epoch: int, encoder: nn.Module) -> None:
        """Search for neighbors in the projections as they are now, if that is due."""
        refresh = self.config.refresh
        if refresh > 0 and epoch > 0 and epoch % refresh == 0:
            self.bank = self.finder = None  # memory need not have room for others beside them
            self._search(self._make_bank(encoder))

    @torch.no_grad()
    def _make_bank(self, encoder: nn.Module) -> Tensor:
        """Projections of all images, float[n, p]."""
        projected = nn.Sequential(encoder, self.head)
        training = encoder.training
        projected.eval()
        size = embedding_size(projected, self.images)
        bank = allocate_rows(len(self.images), size, self.fabric.device)
        fill_bank(bank, projected, self.images, self.fabric, self.track)
        projected.train(training)
        return bank

    def _search(self, bank: Tensor) -> None:
        config = self.config
        self.bank = bank
        self.finder = ClusteredFinder(
            config.neighbors, config.clusters, config.far_share, seed=config.seed
        ).fit(bank, Cosine(), workers(self.fabric))
        found = search_all(self.finder, bank, config.neighbors, 0, self.fabric, self.track)
        # On the CPU, where images are chosen: to choose by a GPU, every step would wait for it.
        self.near = found.near.cpu()

    def partners(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """See `Paired`: the image itself or, once they are searched for, one of its neighbors."""
        if self.bank is None:
            return rows
        chosen = torch.rand(len(rows), generator=generator) < self.config.neighbor_share
        drawn = torch.randint(self.config.neighbors, rows.shape, generator=generator)
        return torch.where(chosen, self.near[rows, drawn], rows)

    def __call__(self, model: nn.Module, rows: Tensor, images: Tensor, epoch: float) -> Step:
        """See `Objective`."""
        first, second = (self.views(each) for each in images.unbind(1))
        if self.config.unchanged_share:
            unchanged = torch.rand(len(first), device=first.device) < self.config.unchanged_share
            first = torch.where(unchanged.view(-1, 1, 1, 1), images[:, 0], first)
        with self.fabric.autocast():
            seen = [self.corruption(view) for view in (first, second)]
        output: Output
        output, projections = model(*(corrupted.images for corrupted in seen))
        far = None if self.finder is None else self.finder.are_far(self._of_all(*rows.unbind(1)))
        own, near = self._of_all(*projections.float().chunk(2)).chunk(2)
        relation = contrastive_loss(own, near, far, self.config.temperature)
        weighted, pixel = pixel_errors(output.reconstruction, first, seen[0])
        loss = relation + self.config.pixel_weight * weighted
        return Step(
            loss, output.embeddings, {"relation": relation.detach(), "pixel": pixel.detach()}
        )

    def _of_all(self, firsts: Tensor, seconds: Tensor) -> Tensor:
        """The rows of the first views in all processes, and then those of the second ones."""
        device = self.fabric.device
        return torch.cat([all_rows(self.fabric, each.to(device)) for each in (firsts, seconds)])

    def state(self) -> Mapping[str, Tensor]:
        """The head, and what neighbors were found in."""
        state = {f"head.{name}": value for name, value in self.head.state_dict().items()}
        return state if self.bank is None else {**state, "bank": self.bank}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Objective`."""
        bank = state.get("bank")
        self.head.load_state_dict(strip("head.", state))
        if bank is not None:
            self._search(bank.to(self.fabric.device))


class _Projected(nn.Module):
    """A network in training, with the head through which its embeddings are related."""

    def __init__(self, network: Autoencoder, head: nn.Module) -> None:
        super().__init__()
        self.network, self.head = network, head

    def forward(self, first: Tensor, second: Tensor) -> tuple[Output, Tensor]:
        """Embeddings and reconstruction of the first views, and the projections of both."""
        embeddings = self.network.encoder(torch.cat([first, second]))
        own = embeddings[: len(first)]
        return Output(own, self.network.decoder(own)), self.head(embeddings)
