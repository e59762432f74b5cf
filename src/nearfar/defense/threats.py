"""Threat models, which define what an attacker of a defended classifier has access to."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from nearfar.defense.defended import DefendedClassifier
from nearfar.errors import NearfarError

Threat = Literal["transfer", "white-box-unaware", "white-box-aware", "decision-based"]

THREATS: dict[Threat, str] = {
    "transfer": "gradients of a substitute trained on the classifier's predictions",
    "white-box-unaware": "gradients of the classifier alone, without its defense",
    "white-box-aware": "gradients of classifier and defense from end to end, including detectors; "
    "approximated where there are none (BPDA), averaged over random draws (EOT)",
    "decision-based": "predictions of the defended classifier on queries, and no gradients",
}
#: Threat models without access to the defense.
DEFENSE_UNSEEN: tuple[Threat, ...] = ("transfer", "white-box-unaware")
#: Number of draws averaged by an attack on a randomized defense.
_DRAWS = 8


def attacked_module(
    threat: Threat, defended: DefendedClassifier, substitute: nn.Module | None
) -> nn.Module:
    """Return the module that an attack differentiates or queries under a threat model.

    Parameters
    ----------
    threat : {"transfer", "white-box-unaware", "white-box-aware", "decision-based"}
        Threat model. See `THREATS`.
    defended : DefendedClassifier
        Classifier and its defense.
    substitute : nn.Module, optional
        Attacker's substitute classifier, required for "transfer".

    Raises
    ------
    NearfarError
        If the threat model is unknown, or the substitute is missing.

    Examples
    --------
    >>> defended = DefendedClassifier(nn.Identity(), nn.Flatten())
    >>> attacked_module("white-box-unaware", defended, None) is defended.classifier
    True
    """
    if threat not in get_args(Threat):
        raise NearfarError(f"threat {threat!r} is unknown: expected {', '.join(get_args(Threat))}")
    if threat == "transfer":
        if substitute is None:
            raise NearfarError("a transfer attack needs a substitute: expected one")
        return substitute
    if threat == "white-box-unaware":
        return defended.classifier
    whole = WithRejectionClass(defended) if defended.detectors else defended
    if threat == "decision-based":
        return whole
    return ExpectedOutput(whole, _DRAWS) if defended.random else whole


class WithRejectionClass(nn.Module):
    """Defended classifier with rejection as an additional last class, for attacks on detectors.

    The logit of the rejection class is the largest if and only if a detector rejects the image (N.
    Carlini, D. Wagner, "Adversarial Examples Are Not Easily Detected", AISec 2017, section 7).

    Parameters
    ----------
    defended : DefendedClassifier
        Defended classifier with detectors.

    Examples
    --------
    >>> from nearfar.defense import ThresholdDetector
    >>> detector = ThresholdDetector(nn.Flatten(0), threshold=0.5)
    >>> defended = DefendedClassifier(nn.Identity(), nn.Linear(1, 3), [detector])
    >>> WithRejectionClass(defended)(torch.ones(2, 1)).argmax(1)
    tensor([3, 3])
    """

    def __init__(self, defended: DefendedClassifier) -> None:
        super().__init__()
        self.defended = defended

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the k classes and of rejection (float[b, k + 1])."""
        logits = self.defended(images)
        # The smallest logit becomes 0, so that a rejection score above 1 exceeds the largest logit.
        logits = logits - logits.amin(1, keepdim=True)
        rejected = self.defended.rejection_score(images) * logits.amax(1)
        return torch.cat([logits, rejected[:, None]], 1)


class ExpectedOutput(nn.Module):
    """Mean output of a randomized classifier, known as expectation over transformation (EOT [1]_).

    Parameters
    ----------
    module : nn.Module
        Module that takes images (float[b, c, h, w]) and returns logits (float[b, k]).
    draws : int
        Number of random outputs to average, ≥ 1.

    References
    ----------
    .. [1] A. Athalye et al., "Synthesizing Robust Adversarial Examples", ICML 2018.

    Examples
    --------
    >>> ExpectedOutput(nn.Flatten(), draws=4)(torch.zeros(2, 3, 1, 1)).shape
    torch.Size([2, 3])
    """

    def __init__(self, module: nn.Module, draws: int) -> None:
        super().__init__()
        self.module, self.draws = module, draws

    def forward(self, images: Tensor) -> Tensor:
        """Return the logarithms of mean probabilities (float[b, k]), up to an additive constant."""
        logs = log_softmax(self.module(images.repeat(self.draws, 1, 1, 1)), 1)
        return logs.unflatten(0, (self.draws, -1)).logsumexp(0)
