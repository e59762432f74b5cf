"""The four claims of §3.2, each measured over seeds and judged by a paired test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import ttest_1samp
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn.functional import mse_loss

from nearfar.data import ArrayImages, Images, to_unit
from nearfar.evaluation import BLANK, LabeledEmbeddings
from nearfar.evaluation.scores import PROBE_C, PROBE_ITERATIONS, Embeddings
from nearfar.experiments import digits
from nearfar.experiments.configs import plain_half, relational
from nearfar.experiments.metrics import encode, network_after, pixel_error, reconstruct, task_on
from nearfar.experiments.runner import Cell, Measured, Reproduction, fingerprint
from nearfar.experiments.statistics import (
    LEVEL,
    answer,
    cell_name,
    choose_seeds,
    machines,
    number,
    over_seeds,
    p_greater,
    seeds_note,
    summarize,
)
from nearfar.models import Autoencoder
from nearfar.neighbors import ExactFinder, fit_similarity
from nearfar.progress import Track, silent
from nearfar.report import markdown_table
from nearfar.report.figures import Dot, dot_plot

#: λ of the two trainings that the claims compare.
WEIGHTS = {"related": (1 / 3, 1 / 3, 1 / 3), "alone": (1.0, 0.0, 0.0)}
TITLES = {"related": "(1/3, 1/3, 1/3)", "alone": "(1, 0, 0)"}
EPOCHS, QUICK_EPOCHS = 40, 4
#: Standard deviation of the Gaussian noise, where 0…1 is black…white.
NOISE = 0.25
#: Errors whose ratio is between 1/1.25 and 1.25 are called about equal.
MARGIN = 1.25


@dataclass(frozen=True)
class Verdict:
    """A claim and the p-value of its test: None of one seed.

    Parameters
    ----------
    measure : str
        What `values` are, of each seed, by name.
    """

    claim: str
    measure: str
    values: Mapping[str, Sequence[float]]
    p: float | None

    @property
    def holds(self) -> str:
        """Yes or no; undecided of one seed."""
        return answer(self.p)


def claims(
    out: Path,
    *,
    data_root: Path | None = None,
    seeds: int | None = None,
    quick: bool = False,
    track: Track = silent,
) -> str:
    """Judge the four claims, and write `claims.json`, `claims.md` and `claims.png`.

    Parameters
    ----------
    out, data_root, seeds, quick
        As for `nearfar.experiments.table1.table1`; what is measured is measured on validation
        digits, and the test digits are not read.

    Returns
    -------
    str
        The verdicts as Markdown.
    """
    numbers = choose_seeds(seeds, quick=quick)
    epochs = QUICK_EPOCHS if quick else EPOCHS
    train, validation = digits.for_validation(data_root, quick=quick)
    settings = {
        "quick": quick,
        "noise": NOISE,
        "probe": {"C": PROBE_C, "iterations": PROBE_ITERATIONS},
        "train": fingerprint(train),
        "validation": fingerprint(validation),
    }
    reproduction = Reproduction(out, "claims", settings, track=track)

    def cell(seed: int) -> Cell:
        configs = {
            name: relational(epochs, weights=weights, seed=seed, **digits.choices(quick=quick))
            for name, weights in WEIGHTS.items()
        }

        def measure() -> dict[str, float]:
            half = plain_half(epochs)
            folders = {
                name: reproduction.train(cell_name(name, seed), train, config, [half, epochs])
                for name, config in configs.items()
            }
            networks = {name: network_after(folder, epochs) for name, folder in folders.items()}
            # Both trainings began from it.
            before = network_after(folders["related"], half)
            return _measure(networks, before, train, validation, seed, track)

        saved = {name: asdict(config) for name, config in configs.items()}
        return Cell(cell_name("claims", seed), {"seed": seed, "configs": saved}, measure)

    measured = reproduction.measure([cell(seed) for seed in numbers])
    verdicts = _judge(measured, numbers)
    text = markdown_table(
        ["claim", "measured", "p", "holds"],
        [
            [
                verdict.claim,
                "; ".join(f"{name} {number(values, 4)}" for name, values in verdict.values.items()),
                BLANK if verdict.p is None else f"{verdict.p:.2g}",
                verdict.holds,
            ]
            for verdict in verdicts
        ],
        [
            f"{seeds_note(numbers).capitalize()}, {epochs} epochs, on {len(validation):,} "
            f"validation images of {validation.name}; {len(train):,} others were learned from.",
            f"One-sided paired t-tests over seeds; a claim of two parts is held to its worse one. "
            f"About equal: the ratio of the errors is between 1/{MARGIN:g} and {MARGIN:g}, by two "
            f"one-sided tests. A claim holds if p < {LEVEL:g}.",
            f"Noise: Gaussian of standard deviation {NOISE:g}. Measured on {machines(measured)}.",
        ],
    )
    summary = {
        verdict.claim: {name: summarize(values) for name, values in verdict.values.items()}
        | {"p": verdict.p, "holds": verdict.holds}
        for verdict in verdicts
    }
    panels = {
        f"{place}. {verdict.measure}: {verdict.holds}": [
            Dot(name, values) for name, values in verdict.values.items()
        ]
        for place, verdict in enumerate(verdicts, 1)
    }
    reproduction.write(measured, summary, text, dot_plot(panels))
    return text


def _measure(
    networks: Mapping[str, Autoencoder],
    before: Autoencoder,
    train: Images,
    validation: Images,
    seed: int,
    track: Track,
) -> dict[str, float]:
    """Everything that the claims are about, for one seed."""
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
    """Mean squared pixel errors of reconstructions to X, X₀ and X_∞ (Eq. 2 and 3)."""
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
    """X + σ: Gaussian noise on every pixel, as far as black and white allow."""
    pixels = to_unit(images.batch(range(len(images))))
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed))
    return ArrayImages((pixels + NOISE * noise).clamp(0, 1))


def _true_class_probabilities(task: LabeledEmbeddings, tests: Sequence[Embeddings]) -> list[float]:
    """Mean probability of the true class, by logistic regression on the training part.

    `tests` are embeddings of the images of the task's test part.
    """
    scaled = replace(task, test=np.concatenate(tests)).scaled()
    model = LogisticRegression(C=PROBE_C, max_iter=PROBE_ITERATIONS)
    model.fit(scaled.train, scaled.train_labels)
    columns = np.searchsorted(model.classes_, task.test_labels)
    rows = np.arange(len(columns))
    probabilities = np.split(model.predict_proba(scaled.test), len(tests))
    return [float(each[rows, columns].mean()) for each in probabilities]


def _judge(measured: Mapping[str, Measured], seeds: Sequence[int]) -> list[Verdict]:
    """Test the four claims."""

    def values(key: str) -> list[float]:
        return over_seeds(measured, "claims", key, seeds)

    own, near, far = (values(f"distance_{name}") for name in ("X", "near", "far"))
    embeddings, noisy, errors = (
        {name: values(f"{key}_{name}") for name in WEIGHTS}
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
    """Return the p-value of the ratio of a to b being outside the margin (two one-sided tests)."""
    if len(a) < 2:
        return None
    ratios, margin = np.log(a) - np.log(b), np.log(MARGIN)
    above = ttest_1samp(ratios, -margin, alternative="greater").pvalue
    below = ttest_1samp(ratios, margin, alternative="less").pvalue
    return float(max(above, below))


def _worse(*p: float | None) -> float | None:
    known = [value for value in p if value is not None]
    return max(known) if len(known) == len(p) else None
