"""Table 3 and Figure 5: a classifier of digits behind reconstructions, under four threat models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from nearfar.data import Images, require_labels
from nearfar.defense import (
    DEFENSE_UNSEEN,
    FALSE_POSITIVE_RATE,
    HOP_SKIP_JUMP_STEPS,
    PGD_STEPS,
    THREATS,
    Classifier,
    DefendedClassifier,
    Threat,
    apply_in_batches,
    attack,
    device_of,
    evaluate_defense,
    gradient_masking,
    load_pixels,
)
from nearfar.errors import require
from nearfar.experiments import digits
from nearfar.experiments.defenses import (
    NO_DEFENSE,
    ROBUST_EPSILON,
    ROWS,
    Budget,
    Defenses,
    Row,
)
from nearfar.experiments.runner import Cell, Measured, Reproduction, fingerprint
from nearfar.experiments.statistics import (
    cell_name,
    choose_rows,
    choose_seeds,
    machines,
    over_seeds,
    percent,
    seeds_note,
    spread,
    summarize,
)
from nearfar.progress import Track, silent
from nearfar.report import markdown_table
from nearfar.report.figures import comparison_sheet, security_curves

EPSILONS = (0.01, 0.1, 0.2, 0.3)
#: The attack under each threat model; the first is the paper's.
ATTACKS: dict[Threat, str] = {
    "transfer": "fgsm",
    "white-box-unaware": "pgd",
    "white-box-aware": "pgd",
    "decision-based": "hop-skip-jump",
}
WHOLE = Budget(networks=40, classifier=6, robust=10)
QUICK = Budget(networks=2, classifier=5, robust=1)
#: The row and the ε of the picture, as in the paper's Figure 5.
SHOWN, SHOWN_EPSILON = "NRE", 0.2
CLEAN = "clean"


@dataclass(frozen=True)
class Sizes:
    """How many images are attacked under each threat model; None for all."""

    transfer: int | None = None
    white_box: int = 300
    decision_based: int = 50

    def of(self, threat: Threat) -> int | None:
        """Return the number for a threat model."""
        if threat == "transfer":
            return self.transfer
        return self.decision_based if threat == "decision-based" else self.white_box


QUICK_SIZES = Sizes(transfer=200, white_box=20, decision_based=2)


def table3(
    out: Path,
    *,
    data_root: Path | None = None,
    seeds: int | None = None,
    rows: Sequence[str] = (),
    quick: bool = False,
    track: Track = silent,
) -> str:
    """Attack a classifier behind every defense, and write `table3.json`, `.md` and `.png`.

    The last shows accuracy over ε; `figure5.png` is the paper's Figure 5. The classifiers are kept
    in `classifiers`.

    Parameters
    ----------
    rows : sequence of str
        Some of `ROWS`; all if none are given. No defense is always there.
    out, data_root, seeds, quick
        As for `nearfar.experiments.table1.table1`.

    Returns
    -------
    str
        A table for each threat model, as Markdown.

    Raises
    ------
    NearfarError
        If a row is unknown, there are no seeds, or the folder was begun with other choices.
    """
    require("art", extra="defense")
    chosen = choose_rows([*rows, NO_DEFENSE] if rows else rows, ROWS)
    numbers = choose_seeds(seeds, quick=quick)
    budget = QUICK if quick else WHOLE
    sizes = QUICK_SIZES if quick else Sizes()
    learned, validation, held_out, attacked = digits.for_attacks(data_root, quick=quick)
    settings = {
        "quick": quick,
        "learned": fingerprint(learned),
        "validation": fingerprint(validation),
        "substitute": fingerprint(held_out),
        "attacked": fingerprint(attacked),
        "epsilons": EPSILONS,
        "attacks": ATTACKS,
        "steps": {"pgd": PGD_STEPS, "hop-skip-jump": HOP_SKIP_JUMP_STEPS},
        "sizes": asdict(sizes),
        "classifier_epochs": budget.classifier,
        "robust_epochs": budget.robust,
        "robust_epsilon": ROBUST_EPSILON,
        "false_positive_rate": FALSE_POSITIVE_RATE,
    }
    reproduction = Reproduction(out, "table3", settings, track=track)
    choices = digits.choices(quick=quick)
    defenses = Defenses(reproduction, learned, validation, held_out, budget, choices)
    images, labels = load_pixels(attacked), torch.from_numpy(require_labels(attacked))

    def adversarial(
        threat: Threat, defended: DefendedClassifier, row: Row, seed: int
    ) -> Iterator[Tensor]:
        """Attack as the table does, for each ε in turn."""
        count = sizes.of(threat)
        return attack(
            ATTACKS[threat],
            threat,
            defended,
            images[:count],
            labels[:count],
            EPSILONS,
            substitute=defenses.substitute(row.hardened, seed),
            seed=seed,
        )

    @lru_cache(maxsize=len(DEFENSE_UNSEEN))
    def unaware(threat: Threat, row: Row, seed: int) -> list[Tensor]:
        """Attack a classifier, which is the same whatever its defense."""
        return list(adversarial(threat, defenses.make(row, seed), row, seed))

    def cell(name: str, seed: int) -> Cell:
        row = ROWS[name]

        def measure() -> dict[str, float]:
            defended, substitute = defenses.make(row, seed), defenses.substitute(row.hardened, seed)
            found = {
                threat: unaware(threat, Row(hardened=row.hardened), seed)
                if threat in DEFENSE_UNSEEN
                else adversarial(threat, defended, row, seed)
                for threat in ATTACKS
            }
            if (name, seed) == (SHOWN, 0):
                shown = digits.one_of_each_class(attacked)
                reproduction.draw("figure5", _figure5(defended, substitute, shown))
            return {
                **_judge(defended, images, labels, found),
                **_check(defended, images[: sizes.white_box], labels[: sizes.white_box], seed),
                "substitute": evaluate_defense(
                    DefendedClassifier(nn.Identity(), substitute), images, labels
                ).accuracy,
            }

        return Cell(
            cell_name(name, seed),
            {"row": name, "seed": seed, **defenses.describe(row, seed)},
            measure,
            None if row.network is None else cell_name(row.network, seed),
        )

    # Seed after seed, so that a table of fewer seeds is whole when it is interrupted.
    measured = reproduction.measure([cell(name, seed) for seed, name in product(numbers, chosen)])
    return _write(reproduction, measured, chosen, numbers, sizes)


def _judge(
    defended: DefendedClassifier,
    images: Tensor,
    labels: Tensor,
    adversarial: Mapping[Threat, Iterable[Tensor]],
) -> dict[str, float]:
    """Judge a defense by clean images, and by adversarial ones for each ε."""
    clean = evaluate_defense(defended, images, labels)
    result = {CLEAN: clean.accuracy, f"{CLEAN}, rejected": clean.rejected}
    for threat, each in adversarial.items():
        for epsilon, found in zip(EPSILONS, each, strict=True):
            outcome = evaluate_defense(defended, found, labels[: len(found)])
            result[_key(threat, epsilon)] = outcome.defended
            result[f"{_key(threat, epsilon)}, rejected"] = outcome.rejected
    return result


def _check(
    defended: DefendedClassifier, images: Tensor, labels: Tensor, seed: int
) -> dict[str, float]:
    """Look for gradient masking."""
    masking = gradient_masking(defended, images, labels, seed=seed)
    return {
        "masked": float(masking.masked),
        "masking accuracy": masking.accuracy,
        "masking chance": masking.chance,
    }


def _write(
    reproduction: Reproduction,
    measured: Mapping[str, Measured],
    rows: Sequence[str],
    seeds: Sequence[int],
    sizes: Sizes,
) -> str:
    """Write the tables in their three forms; return them as Markdown."""

    def values(row: str, key: str) -> list[float]:
        return over_seeds(measured, row, key, seeds)

    def paper(row: str, threat: Threat, column: int) -> float | None:
        known = ROWS[row].paper if threat == "transfer" else ()
        return known[column] if known else None

    keys = [_key(threat, epsilon) for threat, epsilon in product(ATTACKS, EPSILONS)]
    summary = {
        row: {CLEAN: summarize(values(row, CLEAN))}
        | {
            key: summarize(values(row, key), paper(row, threat, column))
            for key, (threat, (column, _)) in zip(
                keys, product(ATTACKS, enumerate(EPSILONS)), strict=True
            )
        }
        for row in rows
    }
    parts = [
        f"### {threat}: {ATTACKS[threat]}\n\n"
        + markdown_table(
            ["", "no attack", *(f"ε = {epsilon:g}" for epsilon in EPSILONS)],
            [
                [
                    row,
                    percent(values(row, CLEAN)),
                    *(
                        percent(values(row, _key(threat, epsilon)), paper(row, threat, column))
                        for column, epsilon in enumerate(EPSILONS)
                    ),
                ]
                for row in rows
            ],
            [
                f"The attacker has {THREATS[threat]}. "
                + (f"The first {sizes.of(threat)} images." if sizes.of(threat) else "All images.")
            ],
        )
        for threat in ATTACKS
    ]
    settings = reproduction.settings
    masked = [row for row in rows if spread(values(row, "masked")).mean > 0]
    notes = [
        f"Images that are classified correctly or rejected, in %, {seeds_note(seeds)}; without an "
        "attack, a rejection is a mistake. In parentheses, the paper's.",
        f"{settings['learned']['images']:,} images of {settings['learned']['source']} were learned "
        f"from; {settings['attacked']['images']:,} of {settings['attacked']['source']} are "
        f"attacked; the substitute learned from {settings['substitute']['images']} others, and is "
        f"right in {percent(values(rows[0], 'substitute'))}.",
        "Gradient masking (PGD with ε up to 1 does not bring accuracy down to chance), so that "
        "white-box numbers prove nothing: " + (", ".join(masked) or "none") + ".",
        f"Measured on {machines(measured)}.",
    ]
    text = "\n".join([*parts, *(f"- {note}" for note in notes)]) + "\n"
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {
        threat: {
            row: [(0.0, spread(values(row, CLEAN)).mean)]
            + [(each, spread(values(row, _key(threat, each))).mean) for each in EPSILONS]
            for row in rows
        }
        for threat in ATTACKS
    }
    reproduction.write(measured, summary, text, security_curves(panels))
    return text


def _figure5(defended: DefendedClassifier, substitute: Classifier, shown: Images) -> Figure:
    """Draw images, what NRE makes of their adversarial versions, and these (Fig. 5)."""
    images, labels = load_pixels(shown), torch.from_numpy(require_labels(shown))
    (adversarial,) = attack(
        "fgsm", "transfer", defended, images, labels, [SHOWN_EPSILON], substitute=substitute
    )
    purified = apply_in_batches(defended.purifier, adversarial, device_of(defended))
    rows = {"original": images, "purified": purified, "adversarial": adversarial}
    return comparison_sheet({name: each.numpy() for name, each in rows.items()})


def _key(threat: Threat, epsilon: float) -> str:
    return f"{threat}, ε = {epsilon:g}"
