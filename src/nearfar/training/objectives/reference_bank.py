"""Bank of reference embeddings: all images, encoded by a frozen encoder, for neighbor search."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nearfar.config import NeighborSearch, RelationalObjective
from nearfar.models import embedding_size
from nearfar.neighbors import Bank, DiskBank, Neighbors, allocate_rows, fit_similarity, make_finder
from nearfar.runs import strip_prefix
from nearfar.training.distributed import all_sum, fill_bank, search_all, workers
from nearfar.training.objectives.base import Context


class ReferenceBank:
    """Bank of the embeddings of all images by the reference encoder 𝒜.

    The bank is searched for near and far samples. The settings in `NeighborSearch` determine when
    to search, and with which queries:

    - At every step, with the embedding R_𝒜(X′) of the current reconstruction.
    - Once per epoch, with the embedding of the latest reconstruction of each image, which needs no
      additional forward pass. In the first epoch, and after the reference encoder is refreshed, the
      embedding R_𝒜(X) of the image is used instead.
    - Once per epoch, with the embedding R_𝒜(X) of each image.

    Parameters
    ----------
    context : Context
        Images, settings and hardware of the training run.
    settings : RelationalObjective
        Settings of the objective.
    reference : nn.Module
        Reference encoder. It is copied, and the copy is frozen.
    searching : bool
        Whether near and far samples are needed.
    state : mapping of str to Tensor
        State from a checkpoint, as returned by `state`. Empty at the start of the phase.
    """

    def __init__(
        self,
        context: Context,
        settings: RelationalObjective,
        reference: nn.Module,
        *,
        searching: bool,
        state: Mapping[str, Tensor],
    ) -> None:
        self.context, self.fabric, self.searching = context, context.fabric, searching
        self.settings, self.search = settings, settings.search
        self.folder = context.folder if self.search.bank == "disk" else None
        self._set_reference(reference, strip_prefix("reference.", state))
        # Latest R_𝒜(X′), written in even and in odd epochs. On disk, these are two banks, so that
        # the one from which the epoch started survives a crash.
        self.recent: tuple[Bank, ...] = ()
        if searching and keeps_reconstructions(self.search):
            size = self.bank.shape[1]
            even = self._allocate("even", size)
            self.recent = (even, even if self.folder is None else self._allocate("odd", size))
        n = len(context.images)
        self.visited = torch.zeros(n, dtype=torch.bool, device=self.bank.device)
        self.neighbors_of_epoch: Neighbors | None = None
        self._load(state)

    def _set_reference(self, network: nn.Module, saved: Mapping[str, Tensor]) -> None:
        """Use a frozen copy of `network` as the reference encoder, and rebuild bank and finder.

        If `saved` is not empty, it replaces the weights of the copy.
        """
        reference = copy.deepcopy(network)
        if saved:
            reference.load_state_dict(saved)
        self.reference = reference.to(self.fabric.device).eval().requires_grad_(False)
        self.bank = self._make_bank()
        self.search_similarity = fit_similarity(self.search.similarity, self.bank)
        fitted = {k: v.to(self.fabric.device) for k, v in self.search_similarity.state().items()}
        self.similarity = (
            type(self.search_similarity)(**fitted) if fitted else self.search_similarity
        )
        if self.searching:
            finder = make_finder(self.search, self.settings.neighbors, self.context.config.seed)
            self.finder = finder.fit(self.bank, self.search_similarity, workers(self.fabric))

    @torch.no_grad()
    def _make_bank(self) -> Bank:
        images = self.context.images
        bank = self._allocate("bank", embedding_size(self.reference, images))
        fill_bank(bank, self.encode, images, self.fabric, self.context.track)
        return bank

    def _allocate(self, name: str, size: int) -> Bank:
        """Return a bank of zeros, on the training device or in files shared by all processes."""
        n, device = len(self.context.images), self.fabric.device
        if self.folder is None:
            return allocate_rows(n, size, device)
        if self.fabric.is_global_zero and not (self.folder / name).is_dir():
            DiskBank.create(self.folder / name, n, size)
        self.fabric.barrier()
        return DiskBank(self.folder / name, n, size, device)

    def encode(self, images: Tensor) -> Tensor:
        """Return the embeddings (float[b, d]) of images (float[b, c, h, w]) by the reference."""
        with self.fabric.autocast():
            embeddings: Tensor = self.reference(images)
        return embeddings.float()

    def embeddings(self, rows: Tensor) -> Tensor:
        """Return the embeddings in the given rows (int64[...]), on the training device.

        The result is float[..., d].
        """
        return self.bank[rows.to(self.bank.device)].to(self.fabric.device)

    def start_epoch(self, epoch: int, encoder: nn.Module) -> None:
        """Refresh the reference encoder if due, and search if the search runs once per epoch.

        A refreshed reference encoder is a copy of `encoder`. The search finds the near and far
        samples of every image.
        """
        every = self.settings.refresh_reference_every
        fresh = epoch == 0 or (every > 0 and epoch % every == 0)
        if fresh and epoch > 0:
            # Free the bank and finder before rebuilding, so that two never coexist.
            del self.bank
            if self.searching:
                del self.finder
            self._set_reference(encoder, {})
        if self.searching and self.search.search_every == "epoch":
            self._share_recent()
            moved = self.recent and not fresh
            queries = self.recent[(epoch - 1) % 2] if moved else self.bank
            count, track = self.settings.neighbors, self.context.track
            self.neighbors_of_epoch = search_all(
                self.finder, queries, count, epoch, self.fabric, track
            )

    def _share_recent(self) -> None:
        """Exchange the latest embeddings of reconstructions between the processes."""
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

    def neighbors(self, rows: Tensor, reconstructions: Tensor, epoch: int) -> Neighbors:
        """Return the row numbers of the near and far samples of a batch (int64[b, T] each).

        If no samples are needed, T is 0.

        Parameters
        ----------
        rows : Tensor
            Row numbers of the images (int64[b]).
        reconstructions : Tensor
            Embeddings of the reconstructions (float[b, d]).
        epoch : int
            Epoch number, from 0.
        """
        rows = rows.to(self.bank.device)
        if not self.searching:
            return Neighbors(*rows.new_empty(2, len(rows), 0))
        if self.neighbors_of_epoch is None:
            return self.finder.search(reconstructions.to(self.bank.device), rows, epoch)
        if self.recent:
            self.recent[epoch % 2][rows] = reconstructions.to(self.bank.device)
            self.visited[rows] = True
        near, far = self.neighbors_of_epoch
        return Neighbors(near[rows], far[rows])

    def state(self) -> dict[str, Tensor]:
        """Return the state to save in a checkpoint, see `Objective.state`."""
        state = {f"reference.{k}": v for k, v in self.reference.state_dict().items()}
        if self.neighbors_of_epoch is not None:
            for bank in self.recent:
                if isinstance(bank, DiskBank):
                    bank.flush()
            self._share_recent()
            near, far = self.neighbors_of_epoch
            state |= {"near": near, "far": far}
            if self.recent and isinstance(self.recent[0], Tensor):
                state["recent"] = self.recent[0]
        return state

    def _load(self, state: Mapping[str, Tensor]) -> None:
        device = self.bank.device
        if "near" in state:
            self.neighbors_of_epoch = Neighbors(state["near"].to(device), state["far"].to(device))
        if "recent" in state and isinstance(recent := self.recent[0], Tensor):
            recent.copy_(state["recent"])


def keeps_reconstructions(search: NeighborSearch) -> bool:
    """Return whether the search of the next epoch needs the embeddings of reconstructions."""
    return search.search_every == "epoch" and search.relative_to == "reconstruction"
