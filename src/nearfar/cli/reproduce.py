"""``nearfar reproduce``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclopts import App, Parameter

from nearfar.cli.options import bars

reproduce = App(
    name="reproduce",
    help=(
        "Measure the paper's tables and figures again.\n\n"
        "Each command can be interrupted, and continues where it was when it is run again. Run in "
        "several terminals at once with the same --out, it shares the work among them: with "
        "OMP_NUM_THREADS=1 in each, one for each core is fastest."
    ),
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Options:
    """What all commands take."""

    out: Path
    "The folder to write to, or to continue in."
    data_root: Path | None = None
    "Folder of the data sets; NEARFAR_DATA, or else ~/.cache/nearfar, if not given."
    seeds: int | None = None
    "How often everything is trained; 3 if not given, 2 with --quick."
    quick: bool = False
    "Minutes instead of hours: few epochs on few images, which shows that it runs and nothing else."


@reproduce.command
def table1(
    *,
    options: Options,
    epochs: tuple[int, ...] = (),
    rows: tuple[str, ...] = (),
    rbf_samples: int | None = None,
) -> None:
    """SVMs on embeddings of MNIST by the autoencoder family (Table 1).

    **For example**

        nearfar reproduce table1 --data-root data --out table1
        nearfar reproduce table1 --out quick --quick --rows autoencoder NRE

    Parameters
    ----------
    epochs
        After how many epochs to measure; 40 100 if not given, 2 5 with --quick.
    rows
        Some of the rows: pixels, autoencoder, denoising-masking, denoising-gaussian,
        context-center, context-random, split-brain, NRE; all if not given.
    rbf_samples
        The most images that the RBF SVM learns from; all if not given.
    """
    from nearfar.experiments.table1 import table1

    _run(table1, options, epochs=epochs, rows=rows, rbf_samples=rbf_samples)


@reproduce.command
def table2(
    *,
    options: Options,
    full: bool = False,
    epochs: int | None = None,
    rows: tuple[str, ...] = (),
) -> None:
    """Pre-train AlexNet without labels, and transfer it to other tasks (Table 2).

    Classification, detection and segmentation, of the data sets that are at hand (detection needs
    nearfar[detection]).

    **For example**

        nearfar reproduce table2 --data-root data --out table2
        nearfar reproduce table2 --data-root data --out full --full --rows NRE
        nearfar reproduce table2 --out quick --quick --rows random NRE

    Parameters
    ----------
    full
        The whole AlexNet, on imagenet/train instead of tiny-imagenet-200/train, and tasks at their
        own sizes: days on a GPU.
    epochs
        Epochs of pre-training in all; 6 if not given, 20 with --full, 2 with --quick.
    rows
        Some of the rows: random, kmeans, autoencoder, NRE, nearfar, and from the weights of kmeans
        autoencoder-kmeans, NRE-kmeans, nearfar-kmeans; all if not given.
    """
    from nearfar.experiments.table2 import table2

    _run(table2, options, full=full, epochs=epochs, rows=rows)


@reproduce.command
def table3(*, options: Options, rows: tuple[str, ...] = ()) -> None:
    """Attack a classifier of digits behind reconstructions, under four threat models (Table 3).

    **For example**

        nearfar reproduce table3 --data-root data --out table3
        nearfar reproduce table3 --out quick --quick --rows NRE

    Parameters
    ----------
    rows
        Some of the rows: no-defense, autoencoder, MagNet-reformer, MagNet-whole, MagNet-like-ours,
        NRE, NRE-denoising, nearfar, nearfar-neighbors, nearfar-neighbors-whole,
        nearfar-unrelated, nearfar-unrelated-neighbors, adversarial-training; all if not given.
    """
    from nearfar.experiments.table3 import table3

    _run(table3, options, rows=rows)


@reproduce.command
def table4(
    *,
    options: Options,
    epochs: int | None = None,
    rows: tuple[str, ...] = (),
    ablation: bool = False,
    validation: bool = False,
) -> None:
    """Find abnormal frames of UCSD Ped2 (Table 4).

    **For example**

        nearfar reproduce table4 --data-root data --out table4
        nearfar reproduce table4 --data-root data --out ours --rows tempo-appearance
        nearfar reproduce table4 --data-root data --out ablation --ablation
        nearfar reproduce table4 --data-root data --out validation --validation

    Parameters
    ----------
    epochs
        Epochs in all of the convolutional networks; 20 if not given, 2 with --quick.
    rows
        Some of the rows: autoencoder, two-autoencoders, NRE-0.6-0.2-0.2, NRE-0.6-0.4-0,
        NRE-0.6-0.4-0-bank, autoencoder-no-overlap, NRE-0.6-0.4-0-no-overlap,
        autoencoder-2-frames, NRE-0.6-0.4-0-2-frames, autoencoder-2-frames-no-overlap,
        NRE-0.6-0.4-0-2-frames-no-overlap, autoencoder-convolutions,
        NRE-0.6-0.4-0-convolutions, tempo, appearance, tempo-appearance; all if not given.
    ablation
        Measure what becomes of tempo if one thing is different. Rows: tempo, no-smoothing,
        longer-smoothing, half-overlap, no-overlap, scores-by-row, place-unknown, no-gliding,
        no-fast, no-grown, 2-frames, 3-frames, 8-frames.
    validation
        Judge on normal clips that were held out, other ones for each of four seeds, with
        photographs of Caltech-101 moving through them, to choose by; test clips are not read.
    """
    from nearfar.experiments.table4 import table4

    _run(table4, options, epochs=epochs, rows=rows, ablation=ablation, validation=validation)


@reproduce.command
def figure1(*, options: Options) -> None:
    """Map embeddings of five classes of photographs before and after NRE (Figure 1).

    **For example**

        nearfar reproduce figure1 --data-root data --out figure1
    """
    from nearfar.experiments.figure1 import figure1

    _run(figure1, options)


@reproduce.command
def figure4(*, options: Options) -> None:
    """Reconstructions of digits by NRE and by the plain autoencoder (Figure 4).

    **For example**

        nearfar reproduce figure4 --data-root data --out figure4
    """
    from nearfar.experiments.figure4 import figure4

    _run(figure4, options)


@reproduce.command
def claims(*, options: Options) -> None:
    """Judge the four claims of the paper's section 3.2.

    **For example**

        nearfar reproduce claims --data-root data --out claims
    """
    from nearfar.experiments.claims import claims

    _run(claims, options)


@reproduce.command
def ablation(*, options: Options, rows: tuple[str, ...] = ()) -> None:
    """Change one choice at a time, scored on validation digits.

    **For example**

        nearfar reproduce ablation --data-root data --out ablation
        nearfar reproduce ablation --data-root data --out ablation --rows paper T=5 T=10

    Parameters
    ----------
    rows
        Some of the rows; all if not given. An unknown one is answered with the names of all.
    """
    from nearfar.experiments.ablation import ablation

    _run(ablation, options, rows=rows)


@reproduce.command
def recipes(
    *,
    options: Options,
    data: str = "mnist",
    epochs: int | None = None,
    rows: tuple[str, ...] = (),
) -> None:
    """Our recipe beside the paper's, SimCLR, NNCLR, VICReg and BYOL (needs nearfar[baselines]).

    **For example**

        nearfar reproduce recipes --data-root data --out recipes
        nearfar reproduce recipes --data caltech --data-root data --out photographs
        nearfar reproduce recipes --out quick --quick --rows autoencoder nearfar SimCLR

    Parameters
    ----------
    data
        mnist, or caltech for nine classes of photographs.
    epochs
        How long every row is trained; as long as our recipe if not given, 2 with --quick.
    rows
        Some of the rows: pixels, autoencoder, paper, nearfar, SimCLR, NNCLR, VICReg, BYOL; all if
        not given.
    """
    from nearfar.experiments.recipes import recipes

    _run(recipes, options, data=data, epochs=epochs, rows=rows)


def _run(command: Callable[..., str], options: Options, **choices: Any) -> None:
    """Run a command, and print its table and where its files are."""
    from nearfar.training.loop import Interrupted

    try:
        text = command(
            options.out,
            data_root=options.data_root,
            seeds=options.seeds,
            quick=options.quick,
            track=bars(),
            **choices,
        )
    except Interrupted as stop:
        raise KeyboardInterrupt("stopped: run the same command again to continue") from stop
    print(text)
    print(f"this table, its figure and every cell are in {options.out}")
