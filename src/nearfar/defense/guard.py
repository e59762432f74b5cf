"""A classifier behind a defense: purified first, and rejected if it looks suspicious."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from nearfar.defense.checks import check_rate
from nearfar.errors import NearfarError

#: Images at a time, where no gradients are needed.
BATCH = 512
#: What `Guarded.predict` says of a rejected image.
REJECTED = -1


class Detector(nn.Module):
    """Rejects images whose score is above a threshold.

    Parameters
    ----------
    score : nn.Module
        From float[b, c, h, w] to float[b], the higher the more suspicious; differentiable.
    threshold : float
        The highest score that is accepted.
    """

    threshold: Tensor

    def __init__(self, score: nn.Module, threshold: float = float("inf")) -> None:
        super().__init__()
        self.score = score
        self.register_buffer("threshold", torch.tensor(threshold))

    def forward(self, images: Tensor) -> Tensor:
        """Scores as shares of the threshold, float[b]: above 1 is rejected."""
        return self.score(images) / self.threshold

    def calibrate(self, clean: Tensor, false_positive_rate: float) -> Detector:
        """Set the threshold so that at most this share of clean images is rejected.

        Parameters
        ----------
        clean : float[n, c, h, w]
            Validation images, which nothing was trained on.
        false_positive_rate : float
            More than 0 and less than 1; n must be large enough to tell it from 0.

        Raises
        ------
        NearfarError
            If the rate is none, or there are too few images for it.
        """
        scores = in_batches(self.score, clean)
        self.threshold.fill_(highest_accepted(scores, false_positive_rate))
        return self


def highest_accepted(scores: Tensor, false_positive_rate: float) -> float:
    """Return the score that at most this share of clean images' scores, float[n], exceeds.

    Raises
    ------
    NearfarError
        If the rate is none, there are too few images for it, or a score is no number.
    """
    check_rate(false_positive_rate)
    if not scores.isfinite().all():
        raise NearfarError("the scores of clean images are not all finite: expected numbers")
    if len(scores) * false_positive_rate < 1:
        raise NearfarError(
            f"false_positive_rate={false_positive_rate} with {len(scores)} clean images: "
            f"expected at least {math.ceil(1 / false_positive_rate)} images"
        )
    accepted = len(scores) - int(len(scores) * false_positive_rate)
    return float(scores.sort().values[accepted - 1])


class Guarded(nn.Module):
    """A classifier that sees what a defense makes of the images.

    Parameters
    ----------
    purifier : nn.Module
        From images float[b, c, h, w] to images of that shape; `nn.Identity` for none.
    classifier : nn.Module
        From images to logits float[b, k].
    detectors : sequence of Detector
        Any of which rejects an image.
    """

    def __init__(
        self, purifier: nn.Module, classifier: nn.Module, detectors: Sequence[Detector] = ()
    ) -> None:
        super().__init__()
        self.purifier, self.classifier = purifier, classifier
        self.detectors = nn.ModuleList(detectors)

    @property
    def random(self) -> bool:
        """Whether the same image may be purified to something else another time."""
        return bool(getattr(self.purifier, "random", False))

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float[b, k], of the purified images, rejected or not; differentiable."""
        return self.classifier(self.purifier(images))

    def without_detectors(self) -> Self:
        """The same classifier and defense, where nothing is rejected."""
        return type(self)(self.purifier, self.classifier) if self.detectors else self

    def suspicion(self, images: Tensor) -> Tensor:
        """The largest score as a share of its threshold, float[b]: above 1 is rejected."""
        if not self.detectors:
            return images.new_zeros(len(images))
        return torch.stack([detector(images) for detector in self.detectors]).amax(0)

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Return the class of each image, int64[n] on the CPU; −1 if it is rejected.

        Parameters
        ----------
        images : float[n, c, h, w]
            On any device, 0…1 is black…white.
        """
        return in_batches(self._predict, images, device_of(self))

    def _predict(self, images: Tensor) -> Tensor:
        return torch.where(self.suspicion(images) > 1, REJECTED, self(images).argmax(1))


@torch.no_grad()
def in_batches(
    call: Callable[[Tensor], Tensor], images: Tensor, device: torch.device | None = None
) -> Tensor:
    """Apply something to images float[n, …], n ≥ 1, a batch at a time; the results on the CPU."""
    if device is None:
        device = device_of(call) if isinstance(call, nn.Module) else images.device
    return torch.cat([call(some.to(device)).cpu() for some in images.split(BATCH)])


def device_of(module: nn.Module) -> torch.device:
    """Return where a module is: the CPU, if it has neither weights nor buffers."""
    tensors: Iterable[Tensor] = (*module.parameters(), *module.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))
