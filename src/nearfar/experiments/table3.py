"""Table 3 and Figure 5: defense of a digit classifier by purification, under four threat models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import torch
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
from nearfar.experiments.cells import Column, Key, Results
from nearfar.experiments.defenses import (
    AUTOATTACK_ROWS,
    NO_DEFENSE,
    ROBUST_EPSILON,
    ROWS,
    DefenseEpochs,
    DefenseRow,
    Defenses,
)
from nearfar.experiments.runner import Runner, fingerprint
from nearfar.experiments.statistics import percent, seeds_note, spread
from nearfar.experiments.table import Report, Table
from nearfar.report import markdown_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EPSILONS = (0.01, 0.1, 0.2, 0.3)
#: Attack under each threat model; the first is the paper's.
ATTACKS: dict[Threat, str] = {
    "transfer": "fgsm",
    "white-box-unaware": "pgd",
    "white-box-aware": "pgd",
    "decision-based": "hop-skip-jump",
}
CLEAN = "clean"
#: Row and ε of Figure 5, as in the paper.
SHOWN, SHOWN_EPSILON = "NRE", 0.2


@dataclass(frozen=True)
class AttackSizes:
    """Number of images to attack under each threat model; None means all images."""

    transfer: int | None = None
    white_box: int = 300
    decision_based: int = 50

    def of(self, threat: Threat) -> int | None:
        """Return the number of images to attack under a threat model; None means all images."""
        if threat == "transfer":
            return self.transfer
        return self.decision_based if threat == "decision-based" else self.white_box


class DefenseData:
    """Digits, defenses, and attacks on the defenses.

    Parameters
    ----------
    runner : Runner
        Runner that trains the networks of the defenses.
    table : DefenseTable
        Table that defines the numbers of epochs and the attacks.
    """

    def __init__(self, runner: Runner, table: DefenseTable) -> None:
        quick, epochs = runner.quick, table.epochs
        learned, validation, held_out, attacked = digits.for_attacks(runner.data_root, quick=quick)
        self.table, self.attacked = table, attacked
        self.settings: dict[str, Any] = {
            "learned": fingerprint(learned),
            "validation": fingerprint(validation),
            "substitute": fingerprint(held_out),
            "attacked": fingerprint(attacked),
            "epsilons": table.epsilons,
            "attacks": dict(table.attacks),
            "steps": {"pgd": PGD_STEPS, "hop-skip-jump": HOP_SKIP_JUMP_STEPS},
            "sizes": asdict(table.sizes),
            "classifier_epochs": epochs.classifier,
            "robust_epochs": epochs.robust,
            "robust_epsilon": ROBUST_EPSILON,
            "false_positive_rate": FALSE_POSITIVE_RATE,
        }
        options = digits.options(quick=quick)
        self.defenses = Defenses(runner, learned, validation, held_out, epochs, options)
        self.images, self.labels = load_pixels(attacked), torch.from_numpy(require_labels(attacked))
        self._unaware = lru_cache(maxsize=len(DEFENSE_UNSEEN))(self._attack_unaware)

    def attack(self, threat: Threat, row: DefenseRow, seed: int) -> Iterable[Tensor]:
        """Return adversarial images against the defense of a row, one tensor per ε.

        If the attacker has no access to the defense, the attack is run only once for all defenses.
        """
        if threat in DEFENSE_UNSEEN:
            return self._unaware(threat, row.hardened, seed)
        return self._attack(threat, row, seed)

    def _attack_unaware(self, threat: Threat, hardened: bool, seed: int) -> list[Tensor]:
        return list(self._attack(threat, DefenseRow(hardened=hardened), seed))

    def _attack(self, threat: Threat, row: DefenseRow, seed: int) -> Iterator[Tensor]:
        count = self.table.sizes.of(threat)
        return attack(
            self.table.attacks[threat],
            threat,
            self.defenses.make(row, seed),
            self.images[:count],
            self.labels[:count],
            self.table.epsilons,
            substitute=self.defenses.substitute(row.hardened, seed),
            seed=seed,
        )


@dataclass(frozen=True, kw_only=True)
class DefenseTable(Table[DefenseRow, DefenseData]):
    """Table of defenses, with one column per threat model and ε.

    Parameters
    ----------
    epochs : DefenseEpochs
        Numbers of epochs.
    sizes : AttackSizes
        Numbers of images to attack.
    attacks : mapping of Threat to str
        Name of the attack for each threat model.
    epsilons : sequence of float
        Values of ε, the maximum change of a pixel.
    """

    row_type: ClassVar[type] = DefenseRow

    epochs: DefenseEpochs
    sizes: AttackSizes
    attacks: Mapping[Threat, str] = field(default_factory=lambda: ATTACKS)
    epsilons: Sequence[float] = EPSILONS

    def open(self, runner: Runner) -> DefenseData:
        """See `Table.open`."""
        require("art", extra="defense")
        return DefenseData(runner, self)

    def columns(self, data: DefenseData) -> list[Column]:
        """See `Table.columns`. The columns cover all threat models."""
        return [
            Column(CLEAN, "no attack"),
            *(column for threat in self.attacks for column in self._columns(threat)),
        ]

    def _columns(self, threat: Threat) -> list[Column]:
        return [
            Column(
                _key(threat, epsilon),
                f"ε = {epsilon:g}",
                paper=epsilon if threat == "transfer" else "",
            )
            for epsilon in self.epsilons
        ]

    def describe(self, runner: Runner, data: DefenseData, key: Key) -> dict[str, Any]:
        """See `Table.describe`."""
        row = self.rows[key.row]
        config = row.network and data.defenses.config(row.network, key.seed).to_dict()
        return {"defense": row.describe(), "config": config}

    def training(self, key: Key) -> str | None:
        """See `Table.training`."""
        network = self.rows[key.row].network
        return None if network is None else network.run(key.seed)

    def measure(self, runner: Runner, data: DefenseData, key: Key) -> Mapping[str, Any]:
        """See `Table.measure`."""
        row, seed = self.rows[key.row], key.seed
        images, labels, defenses = data.images, data.labels, data.defenses
        defended, substitute = defenses.make(row, seed), defenses.substitute(row.hardened, seed)
        if (key.row, seed) == (SHOWN, 0):
            shown = digits.one_of_each_class(data.attacked)
            runner.draw("figure5", _figure5(defended, substitute, shown))
        clean = evaluate_defense(defended, images, labels)
        result = {CLEAN: clean.accuracy, f"{CLEAN}, rejected": clean.rejected}
        for threat in self.attacks:
            for epsilon, found in zip(self.epsilons, data.attack(threat, row, seed), strict=True):
                outcome = evaluate_defense(defended, found, labels[: len(found)])
                result[_key(threat, epsilon)] = outcome.defended
                result[f"{_key(threat, epsilon)}, rejected"] = outcome.rejected
        count = self.sizes.white_box
        masking = gradient_masking(defended, images[:count], labels[:count], seed=seed)
        return {
            **result,
            "masked": float(masking.masked),
            "masking accuracy": masking.accuracy,
            "masking chance": masking.chance,
            "substitute": evaluate_defense(
                DefendedClassifier(nn.Identity(), substitute), images, labels
            ).accuracy,
        }

    def notes(self, runner: Runner, data: DefenseData, results: Results) -> list[str]:
        """See `Table.notes`."""
        learned, attacked = data.settings["learned"], data.settings["attacked"]
        masked = [row for row in self.rows if spread(results.values(row, "masked")).mean > 0]
        substitute = percent(results.values(next(iter(self.rows)), "substitute"))
        return [
            "Images that are classified correctly or rejected, in %, "
            f"{seeds_note(self.seeds)}; without an attack, a rejection is a mistake. Numbers from "
            "the paper are in parentheses.",
            f"Trained on {learned['images']:,} images of {learned['source']}; "
            f"{attacked['images']:,} of {attacked['source']} are attacked; the substitute was "
            f"trained on {data.settings['substitute']['images']} others, and reaches {substitute}.",
            "Gradient masking (PGD with ε up to 1 does not bring accuracy down to chance), which "
            "makes white-box numbers meaningless: " + (", ".join(masked) or "none") + ".",
            f"Measured on {results.machines}.",
        ]

    def report(self, runner: Runner, data: DefenseData, results: Results) -> Report:
        """See `Table.report`."""
        parts = []
        for threat, name in self.attacks.items():
            columns = [Column(CLEAN, "no attack"), *self._columns(threat)]
            header = ["", *(column.title for column in columns)]
            count = self.sizes.of(threat)
            note = (
                f"The attacker has {THREATS[threat]}. "
                f"{f'The first {count} images' if count else 'All images'}."
            )
            table = markdown_table(header, self.lines(columns, results), [note])
            parts.append(f"### {threat}: {name}\n\n{table}")
        notes = [f"- {note}" for note in self.notes(runner, data, results)]
        figures = {self.name: self._curves(results)}
        summary = self.summary(self.columns(data), results)
        return Report("\n".join([*parts, *notes]) + "\n", summary, figures)

    def _curves(self, results: Results) -> Figure:
        """Return a figure of the accuracy as a function of ε, with one panel per threat model."""
        from nearfar.report.figures import security_curves

        def points(row: str, threat: Threat) -> list[tuple[float, float]]:
            keys = {0.0: CLEAN} | {epsilon: _key(threat, epsilon) for epsilon in self.epsilons}
            return [(at, spread(results.values(row, key)).mean) for at, key in keys.items()]

        return security_curves(
            {threat: {row: points(row, threat) for row in self.rows} for threat in self.attacks}
        )


def _figure5(defended: DefendedClassifier, substitute: Classifier, shown: Images) -> Figure:
    """Return a figure of images, adversarial images, and purified adversarial images (Fig. 5)."""
    from nearfar.report.figures import comparison_sheet

    images, labels = load_pixels(shown), torch.from_numpy(require_labels(shown))
    (adversarial,) = attack(
        "fgsm", "transfer", defended, images, labels, [SHOWN_EPSILON], substitute=substitute
    )
    purified = apply_in_batches(defended.purifier, adversarial, device_of(defended))
    rows = {"original": images, "purified": purified, "adversarial": adversarial}
    return comparison_sheet({name: each.numpy() for name, each in rows.items()})


def _key(threat: Threat, epsilon: float) -> str:
    return f"{threat}, ε = {epsilon:g}"


EPOCHS = DefenseEpochs(networks=40, classifier=6, robust=10)
TABLE3 = DefenseTable(
    name="table3",
    rows=ROWS,
    always=NO_DEFENSE,
    epochs=EPOCHS,
    sizes=AttackSizes(),
    quick={
        "epochs": DefenseEpochs(networks=2, classifier=5, robust=1),
        "sizes": AttackSizes(transfer=200, white_box=20, decision_based=2),
    },
)

#: AutoAttack by those who know of the defense, at the ε of its published list.
TABLE3_AUTOATTACK = DefenseTable(
    name="table3-autoattack",
    rows={name: ROWS[name] for name in AUTOATTACK_ROWS},
    always=NO_DEFENSE,
    epochs=EPOCHS,
    sizes=AttackSizes(white_box=1000),
    attacks={"white-box-aware": "autoattack"},
    epsilons=(0.3,),
    quick={
        "epochs": DefenseEpochs(networks=2, classifier=5, robust=1),
        "sizes": AttackSizes(white_box=10),
    },
)
