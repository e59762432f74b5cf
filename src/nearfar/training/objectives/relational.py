"""Relational objective: neighborhood-relational encoding (NRE), as in the paper (Eq. 5)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from nearfar.config import RelationalObjective
from nearfar.data import to_unit
from nearfar.errors import NearfarError, reason
from nearfar.models import (
    Autoencoder,
    Output,
    check_backbone,
    embedding_size,
    pretrained_encoder,
    state_bytes,
)
from nearfar.neighbors import (
    HELD_KEYS_BYTES,
    ZERO_NORM,
    Finder,
    disk_bytes,
    finder_cost,
    make_finder,
)
from nearfar.pretext import make_corruption, pixel_errors
from nearfar.training.objectives.base import Context, Footprint, Objective, Step, Work
from nearfar.training.objectives.losses import relational_loss, relational_terms
from nearfar.training.objectives.reference_bank import ReferenceBank, keeps_reconstructions


class Relational(Objective):
    """Relational objective of the paper (Eq. 5), in the embedding space of the reference encoder.

    The loss moves the reconstruction of an image close to the image and the near samples, and away
    from the far samples. A finder selects these samples, by default
    `nearfar.neighbors.ClusteredFinder`. With a pretext task, the reconstruction is computed from
    the corrupted image and compared with the clean image.

    Parameters
    ----------
    context : Context
        Images, settings and hardware of the training run. `context.config.objective` is a
        `RelationalObjective`.

    Raises
    ------
    NearfarError
        If there are too few images, or the reference encoder does not accept the images.

    Examples
    --------
    >>> from nearfar import recipe, train
    >>> from nearfar.data import ArrayImages
    >>> images = ArrayImages(torch.rand(20, 1, 8, 8))
    >>> run = train(images, recipe("paper", pretrain_epochs=1, epochs=1))
    >>> sorted({"own", "near", "far"} & run.log[-1].keys())
    ['far', 'near', 'own']
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.settings = cast(RelationalObjective, context.config.objective)
        self.search = self.settings.search
        self.on_disk = self.search.bank == "disk"
        self.schedule = self.settings.schedule()
        self.searching = self.schedule.relational
        if context.config.optim.epochs:
            self._new_finder().check(len(context.images))
        self.external = _external_reference(context, self.settings)

    def _new_finder(self) -> Finder:
        return make_finder(self.search, self.settings.neighbors, self.context.config.seed)

    def footprint(self, network: Autoencoder) -> Footprint:
        """See `Objective.footprint`."""
        n = len(self.context.images)
        reference = self.external or network.encoder
        size = embedding_size(reference, self.context.images)
        bank = 4 * n * size
        keys = bank if bank <= HELD_KEYS_BYTES else 0
        recent = self.searching and keeps_reconstructions(self.search)
        checkpoint = state_bytes(reference)
        if self.searching and self.search.search_every == "epoch":
            checkpoint += 2 * 8 * n * self.settings.neighbors
        if self.on_disk:
            disk = {"bank": disk_bytes(n, size)}
            if recent:
                disk["embeddings of reconstructions"] = 2 * disk["bank"]
            return Footprint(keys, disk, checkpoint)
        return Footprint(bank + keys + bank * recent, {}, checkpoint + bank * recent)

    def work(self, network: Autoencoder) -> Mapping[str, Work]:
        """See `Objective.work`."""
        images, epochs = self.context.images, self.context.config.optim.epochs
        size = embedding_size(self.external or network.encoder, images)
        every = self.settings.refresh_reference_every
        fits = 1 + ((epochs - 1) // every if every else 0)
        cost = finder_cost(self._new_finder(), len(images), size, fits=fits, searches=epochs)
        return {"bank": Work(fits), "clusters and neighbors": Work(multiplications=cost)}

    def setup(self, network: Autoencoder, state: Mapping[str, Tensor]) -> nn.Module:
        """See `Objective.setup`."""
        self.network = network
        self.corruption = make_corruption(self.context.config.pretext, network)
        self.bank = ReferenceBank(
            self.context,
            self.settings,
            self.external or network.encoder,
            searching=self.searching,
            state=state,
        )
        return network

    def start_epoch(self, epoch: int) -> None:
        """See `Objective.start_epoch`."""
        self.bank.start_epoch(epoch, self.network.encoder)

    def __call__(self, model: nn.Module, rows: Tensor, images: Tensor, epoch: float) -> Step:
        """See `Objective`."""
        with self.context.fabric.autocast():
            corrupted = self.corruption(images)
        output: Output = model(corrupted.images)
        embeddings = self.bank.encode(output.reconstruction)
        weighted, pixel = pixel_errors(output.reconstruction, images, corrupted)
        near, far = self.bank.neighbors(rows, embeddings.detach(), int(epoch))
        terms = relational_terms(
            embeddings,
            self.bank.embeddings(rows),
            self.bank.embeddings(near),
            self.bank.embeddings(far),
            self.bank.similarity,
            self.settings.reduction,
        )
        weights = self.schedule.at(epoch / self.context.config.optim.epochs)
        loss = relational_loss(terms, weights)
        if self.settings.pixel_weight:
            loss = loss + self.settings.pixel_weight * weighted
        recorded = terms._asdict() if self.searching else {"own": terms.own}
        zero = (embeddings.detach().norm(dim=1) < ZERO_NORM).float().mean()
        recorded |= {"pixel": pixel, "zero_embeddings": zero}
        return Step(
            loss, output.embeddings, {name: term.detach() for name, term in recorded.items()}
        )

    def state(self) -> Mapping[str, Tensor]:
        """See `Objective.state`."""
        return self.bank.state()


def _external_reference(context: Context, settings: RelationalObjective) -> nn.Module | None:
    """Return the external reference encoder in evaluation mode, or None if there is none."""
    images, reference = context.images, settings.reference
    if reference is None:
        return None
    if isinstance(reference, str):
        check_backbone(reference, images.shape)
        weights = settings.reference_weights
        return pretrained_encoder(reference, weights or "pretrained")
    if not isinstance(reference, nn.Module):
        raise NearfarError(f"reference={reference}: expected a name or an nn.Module")
    encoder = copy.deepcopy(reference).eval()
    try:
        with torch.no_grad():
            shape = tuple(encoder(to_unit(images[0]).unsqueeze(0)).shape)
    except Exception as error:  # a user's encoder may raise anything
        raise NearfarError(
            f"the reference does not take images of shape {images.shape}: {reason(error)}"
        ) from error
    if len(shape) != 2:
        raise NearfarError(f"the reference gives embeddings {shape} of an image: expected (1, d)")
    return encoder
