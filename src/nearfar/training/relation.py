"""Relational training: the frozen reference, its bank, and the search for near and far samples."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from nearfar.data import Images
from nearfar.models import Autoencoder, Output, embedding_size
from nearfar.neighbors import (
    Bank,
    ClusteredFinder,
    DiskBank,
    ExactFinder,
    Finder,
    Neighbors,
    allocate_rows,
)
from nearfar.neighbors.similarity import ZERO_NORM, fit_similarity
from nearfar.progress import Track, silent
from nearfar.relational.objective import relational_loss, relational_terms
from nearfar.training.config import TrainConfig
from nearfar.training.objective import Step, make_corruption, pixel_errors
from nearfar.training.processes import all_sum, fill_bank, search_all, workers


class Relation:
    """Neighborhood-relational encoding as a training objective (Eq. 5).

    Near and far samples are those of the reconstruction X′, as the paper asks. Searching at every
    step takes R_𝒜(X′) as it is now; searching once an epoch takes it as it was when the sample
    was last seen, which costs no forward pass, and R_𝒜(X) before anything was seen. Those of the
    image X, if asked for, are found once an epoch.

    On top of a pretext with a corruption, the network sees the corrupted image, and its
    reconstruction is drawn to the embedding of the clean one.

    Parameters
    ----------
    reference : nn.Module
        The encoder 𝒜; a frozen copy is kept.
    folder : Path, optional
        Where the bank goes when `config.bank` is "disk"; all processes must see it.
    """

    name = "relational"

    def __init__(
        self,
        config: TrainConfig,
        reference: nn.Module,
        images: Images,
        fabric: Fabric,
        *,
        folder: Path | None = None,
        track: Track = silent,
    ) -> None:
        self.config = config
        self.images, self.fabric, self.track = images, fabric, track
        self.folder = folder if config.bank == "disk" else None
        self.schedule = config.schedule()
        self.searching = self.schedule.relational
        self.found: Neighbors | None = None
        self._set_reference(reference)
        # R_𝒜(X′) as last seen, written in odd and in even epochs: on disk these are two banks, so
        # that after a crash what an epoch began from is still there.
        self.recent: tuple[Bank, ...] = ()
        following = config.search == "epoch" and config.relative_to == "reconstruction"
        if self.searching and following:
            size = self.bank.shape[1]
            even = self._allocate("even", size)
            self.recent = (even, even if self.folder is None else self._allocate("odd", size))
        self.visited = torch.zeros(len(images), dtype=torch.bool, device=self.bank.device)

    def _set_reference(self, reference: nn.Module) -> None:
        self.reference = copy.deepcopy(reference).to(self.fabric.device).eval()
        self.reference.requires_grad_(False)
        self.bank = self._make_bank()
        self.similarity = fit_similarity(self.config.similarity, self.bank)
        fitted = {k: v.to(self.fabric.device) for k, v in self.similarity.state().items()}
        self.measure = type(self.similarity)(**fitted)
        if self.searching:
            self.finder = make_finder(self.config).fit(
                self.bank, self.similarity, workers(self.fabric)
            )

    @torch.no_grad()
    def _make_bank(self) -> Bank:
        """Embeddings of all images by the reference, float[n, d]."""
        bank = self._allocate("bank", embedding_size(self.reference, self.images))
        fill_bank(bank, self._encode, self.images, self.fabric, self.track)
        return bank

    def _encode(self, images: Tensor) -> Tensor:
        with self.fabric.autocast():
            embeddings: Tensor = self.reference(images)
        return embeddings.float()

    def _allocate(self, name: str, size: int) -> Bank:
        """A row for each image: on this process's device, or in files that all processes share."""
        n, device = len(self.images), self.fabric.device
        if self.folder is None:
            return allocate_rows(n, size, device)
        if self.fabric.is_global_zero and not (self.folder / name).is_dir():
            DiskBank.create(self.folder / name, n, size)
        self.fabric.barrier()
        return DiskBank(self.folder / name, n, size, device)

    def extend(self, network: Autoencoder) -> nn.Module:
        """See `Objective`."""
        self.corruption = make_corruption(self.config, network)
        return network

    def start_epoch(self, epoch: int, encoder: nn.Module) -> None:
        """Take over a new reference if one is due; search for everything if it is done by epoch."""
        refresh = self.config.refresh
        fresh = epoch == 0 or (refresh > 0 and epoch % refresh == 0)
        if fresh and epoch > 0:
            self._forget()
            self._set_reference(encoder)
        if self.searching and self.config.search == "epoch":
            self._share_recent()
            moved = self.recent and not fresh
            queries = self.recent[(epoch - 1) % 2] if moved else self.bank
            self.found = search_all(
                self.finder, queries, self.config.neighbors, epoch, self.fabric, self.track
            )

    def _forget(self) -> None:
        """Let go of bank and finder: memory need not have room for others beside them."""
        del self.bank
        if self.searching:
            del self.finder

    def _share_recent(self) -> None:
        """Let every process know the embeddings that the others saw."""
        if not self.recent:
            return
        recent = self.recent[0]
        if isinstance(recent, Tensor) and self.fabric.world_size > 1:
            summed = all_sum(self.fabric, recent * self.visited.unsqueeze(1))
            anyone = all_sum(self.fabric, self.visited.long()) > 0
            recent.copy_(torch.where(anyone.unsqueeze(1), summed, recent))
        else:
            self.fabric.barrier()
        self.visited.zero_()

    def __call__(self, model: nn.Module, rows: Tensor, images: Tensor, epoch: float) -> Step:
        """See `Objective`."""
        with self.fabric.autocast():
            corrupted = self.corruption(images)
        output: Output = model(corrupted.images)
        embeddings = self._encode(output.reconstruction)
        weighted, pixel = pixel_errors(output.reconstruction, images, corrupted)
        rows = rows.to(self.bank.device)
        found = self._neighbors(rows, embeddings.detach(), int(epoch))
        terms = relational_terms(
            embeddings,
            self._embeddings(rows),
            self._embeddings(found.near),
            self._embeddings(found.far),
            self.measure,
            self.config.reduction,
        )
        loss = relational_loss(terms, self.schedule.at(epoch / self.config.epochs))
        if self.config.pixel_weight:
            loss = loss + self.config.pixel_weight * weighted
        recorded = terms._asdict() if self.searching else {"own": terms.own}
        zero = (embeddings.detach().norm(dim=1) < ZERO_NORM).float().mean()
        recorded |= {"pixel": pixel, "zero_embeddings": zero}
        return Step(
            loss, output.embeddings, {name: term.detach() for name, term in recorded.items()}
        )

    def _neighbors(self, rows: Tensor, embeddings: Tensor, epoch: int) -> Neighbors:
        """Rows of the bank near to and far from the reconstructions of some images."""
        if not self.searching:
            return Neighbors(*rows.new_empty(2, len(rows), 0))
        if self.found is None:
            return self.finder.search(embeddings.to(self.bank.device), rows, epoch)
        if self.recent:
            self.recent[epoch % 2][rows] = embeddings.to(self.bank.device)
            self.visited[rows] = True
        return Neighbors(self.found.near[rows], self.found.far[rows])

    def _embeddings(self, rows: Tensor) -> Tensor:
        return self.bank[rows].to(self.fabric.device)

    def state(self) -> Mapping[str, Tensor]:
        """The reference, and when searching by epoch, what was found and seen."""
        state = {f"reference.{k}": v for k, v in self.reference.state_dict().items()}
        if self.found is not None:
            for bank in self.recent:
                if isinstance(bank, DiskBank):
                    bank.flush()
            self._share_recent()
            state |= {"near": self.found.near, "far": self.found.far}
            if self.recent and isinstance(self.recent[0], Tensor):
                state["recent"] = self.recent[0]
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Objective`."""
        device = self.bank.device
        if "near" in state:
            self.found = Neighbors(state["near"].to(device), state["far"].to(device))
        if "recent" in state and isinstance(recent := self.recent[0], Tensor):
            recent.copy_(state["recent"])


def make_finder(config: TrainConfig) -> Finder:
    """Return the finder that a configuration asks for."""
    if config.finder == "exact":
        return ExactFinder(config.neighbors)
    return ClusteredFinder(config.neighbors, config.clusters, config.far_share, seed=config.seed)
