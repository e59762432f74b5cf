"""Statistical tests of the four claims in §3.2 of the paper, over several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from scipy.stats import ttest_1samp
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn.functional import mse_loss

from nearfar.config import TrainConfig, recipe
from nearfar.data import ArrayImages, Images, to_unit
from nearfar.evaluation import LabeledEmbeddings, scores
from nearfar.experiments import digits
from nearfar.experiments.cells import Column, Key, Papers, Results
from nearfar.experiments.metrics import encode, pixel_error, reconstruct, task_on
from nearfar.experiments.rows import train_for
from nearfar.experiments.runner import Runner
from nearfar.experiments.splits import Splits
from nearfar.experiments.statistics import (
    LEVEL,
    answer,
    number,
    p_greater,
    p_value,
    seeds_note,
    summarize,
)
from nearfar.experiments.table import Report, Table
from nearfar.models import Autoencoder
from nearfar.neighbors import ExactFinder, fit_similarity
from nearfar.progress import Track
from nearfar.report import markdown_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {"related": "(1/3, 1/3, 1/3)", "alone": "(1, 0, 0)"}
#: Standard deviation of the Gaussian noise, for pixel values in [0, 1].
NOISE = 0.25
#: Errors count as about equal if their ratio is between 1/1.25 and 1.25.
MARGIN = 1.25


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """Row with a pair of training runs on which the claims are tested.

    Parameters
    ----------
    related, alone : TrainConfig
        Configurations with and without near and far samples. Both have two phases and share the
        first phase.
    paper : mapping
        Empty, because the paper has no numbers for the claims.
    """

    related: TrainConfig
    alone: TrainConfig
    paper: Papers = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """Verdict on one claim.

    Parameters
    ----------
    claim : str
        Claim as a sentence.
    measure : str
        Name of the measured quantity.
    values : mapping of str to sequence of float
        Values for all seeds, by name.
    p : float or None
        p-value of the test. None if there is only one seed.
    """

    claim: str
    measure: str
    values: Mapping[str, Sequence[float]]
    p: float | None

    @property
    def holds(self) -> str:
        """Whether the claim holds: "yes", "no", or, with a single seed, "undecided"."""
        return answer(self.p)


@dataclass(frozen=True, kw_only=True)
class ClaimsTable(Table[PairRow, Splits]):
    """Table of verdicts on the claims. Each row is a pair of training runs on digits.

    The claims are tested on validation digits.

    Parameters
    ----------
    epochs : int
        Total number of epochs, ≥ 2.
    """

    row_type: ClassVar[type] = PairRow

    epochs: int

    def open(self, runner: Runner) -> Splits:
        """See `Table.open`."""
        splits = digits.validating(runner)
        probe = {"C": scores.PROBE_C, "iterations": scores.PROBE_ITERATIONS}
        settings = {"epochs": self.epochs, "noise": NOISE, "probe": probe, **splits.settings}
        return replace(splits, settings=settings)

    def columns(self, data: Splits) -> list[Column]:
        """See `Table.columns`. The list is empty, because the report has one line per claim."""
        return []

    def parts_of(self, data: Splits, row: str) -> list[None]:
        """See `Table.parts_of`."""
        return [None]

    def configs(self, data: Splits, key: Key) -> dict[str, TrainConfig]:
        """Return the configurations of both training runs, by name."""
        pair = self.rows[key.row]
        return {
            name: train_for(config, self.epochs, seed=key.seed, **data.options)
            for name, config in (("related", pair.related), ("alone", pair.alone))
        }

    def describe(self, runner: Runner, data: Splits, key: Key) -> dict[str, Any]:
        """See `Table.describe`."""
        configs = self.configs(data, key)
        return {"configs": {name: config.to_dict() for name, config in configs.items()}}

    def measure(self, runner: Runner, data: Splits, key: Key) -> Mapping[str, Any]:
        """See `Table.measure`."""
        train, validation = data.of(key.seed)
        configs = self.configs(data, key)
        half = configs["related"].optim.pretrain_epochs
        trainings = {
            name: runner.train(f"{key.row}-{name}-seed-{key.seed}", train, config, [half])
            for name, config in configs.items()
        }
        networks = {name: training.network() for name, training in trainings.items()}
        # Both runs started from this network.
        before = trainings["related"].network(half)
        return _measure(networks, before, train, validation, key.seed, runner.track)

    def notes(self, runner: Runner, data: Splits, results: Results) -> list[str]:
        """See `Table.notes`."""
        train, validation = data.settings["train"], data.settings["validation"]
        return [
            f"{seeds_note(self.seeds).capitalize()}, {self.epochs} epochs, on "
            f"{validation['images']:,} validation images of {validation['source']}; trained on "
            f"{train['images']:,} others.",
            "One-sided paired t-tests over seeds. For a claim with two parts, the larger p-value "
            f"counts. About equal: the ratio of the errors is between 1/{MARGIN:g} and "
            f"{MARGIN:g}, by two one-sided tests. A claim holds if p < {LEVEL:g}.",
            f"Noise: Gaussian of standard deviation {NOISE:g}. Measured on {results.machines}.",
        ]

    def report(self, runner: Runner, data: Splits, results: Results) -> Report:
        """See `Table.report`."""
        verdicts = [verdict for row in self.rows for verdict in judge_claims(results, row)]
        lines = [
            [
                verdict.claim,
                "; ".join(f"{name} {number(values)}" for name, values in verdict.values.items()),
                p_value(verdict.p),
                verdict.holds,
            ]
            for verdict in verdicts
        ]
        notes = self.notes(runner, data, results)
        summary = {
            verdict.claim: {name: summarize(values) for name, values in verdict.values.items()}
            | {"p": verdict.p, "holds": verdict.holds}
            for verdict in verdicts
        }
        text = markdown_table(["claim", "measured", "p", "holds"], lines, notes)
        return Report(text, summary, {self.name: _draw(verdicts)})


def _draw(verdicts: Sequence[Verdict]) -> Figure:
    from nearfar.report.figures import Dot, dot_plot

    panels = {
        f"{place}. {verdict.measure}: {verdict.holds}": [
            Dot(name, values) for name, values in verdict.values.items()
        ]
        for place, verdict in enumerate(verdicts, 1)
    }
    return dot_plot(panels)


def _measure(
    networks: Mapping[str, Autoencoder],
    before: Autoencoder,
    train: Images,
    validation: Images,
    seed: int,
    track: Track,
) -> dict[str, float]:
    """Return all measurements for the claims, by name, for one seed."""
    found = _distances(networks["related"], before.encoder, train, validation, track)
    found["pixel_error_before"] = pixel_error(before, validation, track)
    noisy = _with_noise(validation, seed)
    cleaned = []
    for name, network in networks.items():
        embeddings = task_on(network.encoder, train, validation, seed, track)
        (found[f"probability_{name}"],) = _true_class_probabilities(embeddings, [embeddings.test])
        found[f"pixel_error_{name}"] = pixel_error(network, validation, track)
        cleaned.append(reconstruct(network, noisy, track).flatten(1).numpy())
    images = task_on(nn.Flatten(), train, validation, seed, track)
    probabilities = _true_class_probabilities(images, cleaned)
    names = [f"noisy_probability_{name}" for name in networks]
    return found | dict(zip(names, probabilities, strict=True))


def _distances(
    network: Autoencoder, reference: nn.Module, train: Images, validation: Images, track: Track
) -> dict[str, float]:
    """Return the mean squared distances of reconstructions to X, X₀ and X_∞ (Eq. 2 and 3).

    X is the original image, X₀ is the near sample, and X_∞ is the far sample of the reconstruction.
    """
    made = reconstruct(network, validation, track)
    bank = encode(reference, train, track)
    queries = encode(reference, ArrayImages(made), track)
    finder = ExactFinder(1).fit(bank, fit_similarity("cosine", bank))
    near, far = finder.search(queries, torch.full((len(queries),), -1))
    others = {
        "X": validation.batch(range(len(validation))),
        "near": train.batch(near.flatten()),
        "far": train.batch(far.flatten()),
    }
    return {
        f"distance_{name}": float(mse_loss(made, to_unit(images)))
        for name, images in others.items()
    }


def _with_noise(images: Images, seed: int) -> Images:
    """Return copies of images with added Gaussian noise, clipped to [0, 1]."""
    pixels = to_unit(images.batch(range(len(images))))
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed))
    return ArrayImages((pixels + NOISE * noise).clamp(0, 1))


def _true_class_probabilities(
    task: LabeledEmbeddings, tests: Sequence[scores.Embeddings]
) -> list[float]:
    """Return the mean probability of the true class for each set of test embeddings.

    The probabilities come from a logistic regression on the training embeddings.

    Parameters
    ----------
    task : LabeledEmbeddings
        Training embeddings, and labels of training and test images.
    tests : sequence of float32[m, d]
        Several sets of embeddings of the same m test images.
    """
    scaled = replace(task, test=np.concatenate(tests)).scaled()
    model = LogisticRegression(C=scores.PROBE_C, max_iter=scores.PROBE_ITERATIONS)
    model.fit(scaled.train, scaled.train_labels)
    columns = np.searchsorted(model.classes_, task.test_labels)
    rows = np.arange(len(columns))
    probabilities = np.split(model.predict_proba(scaled.test), len(tests))
    return [float(each[rows, columns].mean()) for each in probabilities]


def judge_claims(results: Results, row: str) -> list[Verdict]:
    """Return the verdicts on the four claims for a pair of runs."""

    def values(key: str) -> list[float]:
        return results.values(row, key)

    own, near, far = (values(f"distance_{name}") for name in ("X", "near", "far"))
    embeddings, noisy, errors = (
        {name: values(f"{key}_{name}") for name in TITLES}
        for key in ("probability", "noisy_probability", "pixel_error")
    )
    return [
        Verdict(
            "1. Reconstructions are closer to X and X₀ than to X∞.",
            "pixel error of reconstructions",
            {"to X": own, "to X₀": near, "to X∞": far},
            _worse(p_greater(far, own), p_greater(far, near)),
        ),
        Verdict(
            "2. Neighbors raise the class probability of embeddings.",
            "class probability of embeddings",
            _titled(embeddings),
            p_greater(embeddings["related"], embeddings["alone"]),
        ),
        Verdict(
            "3. Neighbors raise the class probability of reconstructions of noisy images.",
            "class probability of noisy images",
            _titled(noisy),
            p_greater(noisy["related"], noisy["alone"]),
        ),
        Verdict(
            "4. Neighbors leave the reconstruction error about equal.",
            "reconstruction error",
            _titled(errors) | {"autoencoder before": values("pixel_error_before")},
            _about_equal(errors["related"], errors["alone"]),
        ),
    ]


def _titled(values: Mapping[str, list[float]]) -> dict[str, list[float]]:
    return {TITLES[name]: found for name, found in values.items()}


def _about_equal(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Return the p-value of an equivalence test (TOST): whether the ratio of a and b is about 1.

    Return None if there is only one seed.
    """
    if len(a) < 2:
        return None
    ratios, margin = np.log(a) - np.log(b), np.log(MARGIN)
    above = ttest_1samp(ratios, -margin, alternative="greater").pvalue
    below = ttest_1samp(ratios, margin, alternative="less").pvalue
    return float(max(above, below))


def _worse(*p: float | None) -> float | None:
    known = [value for value in p if value is not None]
    return max(known) if len(known) == len(p) else None


CLAIMS = ClaimsTable(
    name="claims",
    rows={
        "claims": PairRow(
            related=recipe("paper", loss_weights=(1 / 3, 1 / 3, 1 / 3)),
            alone=recipe("paper", loss_weights=(1.0, 0.0, 0.0)),
        )
    },
    epochs=40,
    quick={"epochs": 4},
)
