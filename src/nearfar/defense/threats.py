"""Who attacks, and what they see of a defended classifier."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from nearfar.defense.guard import Guarded
from nearfar.errors import NearfarError

Threat = Literal["transfer", "white-box-unaware", "white-box-aware", "decision-based"]

THREATS: dict[Threat, str] = {
    "transfer": "gradients of a substitute, which learned from labels that the classifier gave",
    "white-box-unaware": "gradients of the classifier alone, without its defense",
    "white-box-aware": "gradients of classifier and defense from end to end, detectors included; "
    "approximated where there are none (BPDA), averaged over what is random (EOT)",
    "decision-based": "answers of the defended classifier to queries, and no gradients",
}
#: What these attacks see is the same whatever the defense.
DEFENSE_UNSEEN: tuple[Threat, ...] = ("transfer", "white-box-unaware")
#: Draws that an attack on a random defense averages over.
DRAWS = 8


def visible(threat: Threat, guarded: Guarded, substitute: nn.Module | None) -> nn.Module:
    """Return the module that an attack under a threat model works on.

    Parameters
    ----------
    substitute : nn.Module, optional
        For "transfer".

    Raises
    ------
    NearfarError
        If the threat model is unknown, or there is no substitute.
    """
    if threat not in get_args(Threat):
        raise NearfarError(f"threat {threat!r} is unknown: expected {', '.join(get_args(Threat))}")
    if threat == "transfer":
        if substitute is None:
            raise NearfarError("a transfer attack works on a substitute: expected one")
        return substitute
    if threat == "white-box-unaware":
        return guarded.classifier
    defended = WithRejection(guarded) if guarded.detectors else guarded
    if threat == "decision-based":
        return defended
    return Averaged(defended, DRAWS) if guarded.random else defended


class WithRejection(nn.Module):
    """A guarded classifier whose last class is "rejected", for attacks that must not be noticed.

    Its logit is above all others just if a detector rejects, as N. Carlini and D. Wagner have it
    ("Adversarial Examples Are Not Easily Detected", AISec 2017, section 7).

    Parameters
    ----------
    guarded : Guarded
        With detectors.
    """

    def __init__(self, guarded: Guarded) -> None:
        super().__init__()
        self.guarded = guarded

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float[b, k + 1]."""
        logits = self.guarded(images)
        # From 0 on, so that "above all others" is "more than 1 times the largest".
        logits = logits - logits.amin(1, keepdim=True)
        rejected = self.guarded.suspicion(images) * logits.amax(1)
        return torch.cat([logits, rejected[:, None]], 1)


class Averaged(nn.Module):
    """The mean of what a random module says: its gradients are the expectation's (EOT [1]_).

    References
    ----------
    .. [1] A. Athalye et al., "Synthesizing Robust Adversarial Examples", ICML 2018.
    """

    def __init__(self, module: nn.Module, draws: int) -> None:
        super().__init__()
        self.module, self.draws = module, draws

    def forward(self, images: Tensor) -> Tensor:
        """Logarithms of mean probabilities, float[b, k]."""
        logs = log_softmax(self.module(images.repeat(self.draws, 1, 1, 1)), 1)
        return logs.unflatten(0, (self.draws, -1)).logsumexp(0)
