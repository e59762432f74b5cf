"""Command ``nearfar reproduce``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import App, Parameter

from nearfar.cli.options import bars, shown

if TYPE_CHECKING:
    from nearfar.experiments import Table

reproduce = App(
    name="reproduce",
    help=(
        "Reproduce the paper's tables and figures.\n\n"
        "An interrupted command continues when it is run again. Run it in several "
        "terminals with the same --out to share the work; one terminal per core with "
        "OMP_NUM_THREADS=1 is fastest."
    ),
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Options:
    """Options shared by all commands."""

    out: Path
    "Folder to write to. Results that are already there are kept."
    data_root: Path | None = None
    "Folder of the data sets. Default: $NEARFAR_DATA, or ~/.cache/nearfar."
    seeds: int | None = None
    "Number of seeds per row. Default: 3, or 2 with --quick."
    quick: bool = False
    "Train for a few epochs on a few images, in minutes. The numbers are meaningless."


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RowOptions(Options):
    """Options shared by all commands that measure rows."""

    rows_from: Path | None = None
    "Python file that defines ROWS, a mapping from labels to your own rows. It is executed."


@reproduce.command
def table1(
    *,
    options: RowOptions,
    epochs: tuple[int, ...] = (),
    rows: tuple[str, ...] = (),
    rbf_samples: int | None = None,
    unscaled: bool = False,
) -> None:
    """Evaluate MNIST embeddings of autoencoder variants with SVMs (Table 1).

    **For example**

        nearfar reproduce table1 --data-root data --out table1
        nearfar reproduce table1 --out quick --quick --rows autoencoder NRE
        nearfar reproduce table1 --out mine --rows autoencoder mine --rows-from my_rows.py
        nearfar reproduce table1 --data-root data --out unscaled --unscaled

    Parameters
    ----------
    epochs
        Numbers of epochs after which to evaluate. Default: 40 100, or 2 5 with --quick.
    rows
        Rows to measure: pixels, autoencoder, denoising-masking, denoising-gaussian,
        context-center, context-random, split-brain, NRE. Default: all.
    rbf_samples
        Maximum number of training images for the RBF SVM, or for both SVMs with --unscaled.
        Default: all.
    unscaled
        Use scikit-learn's SVC with default settings (one-vs-one, C = 1) on unscaled embeddings.
        This is probably what the authors of the paper did.
    """
    from nearfar.experiments.table1 import TABLE1, TABLE1_UNSCALED

    _run(
        TABLE1_UNSCALED if unscaled else TABLE1,
        options,
        rows,
        epochs=epochs or None,
        rbf_samples=rbf_samples,
    )


@reproduce.command
def table2(
    *,
    options: RowOptions,
    full: bool = False,
    epochs: int | None = None,
    rows: tuple[str, ...] = (),
) -> None:
    """Pre-train AlexNet without labels, and transfer it to other tasks (Table 2).

    The tasks are classification, detection and segmentation, on the data sets in the data root.
    Detection requires nearfar[detection].

    **For example**

        nearfar reproduce table2 --data-root data --out table2
        nearfar reproduce table2 --data-root data --out full --full --rows NRE
        nearfar reproduce table2 --out quick --quick --rows random NRE

    Parameters
    ----------
    full
        Train the full AlexNet on imagenet/train instead of a smaller one on
        tiny-imagenet-200/train, and run the tasks at the usual image sizes. This takes days on a
        GPU.
    epochs
        Total epochs of pre-training. Default: 6, 20 with --full, or 2 with --quick.
    rows
        Rows to measure: random, kmeans, autoencoder, NRE, nearfar and, with k-means
        initialization, autoencoder-kmeans, NRE-kmeans, nearfar-kmeans. Default: all.
    """
    from nearfar.experiments.table2 import TABLE2, TABLE2_FULL

    _run(TABLE2_FULL if full else TABLE2, options, rows, epochs=epochs)


@reproduce.command
def table3(*, options: RowOptions, rows: tuple[str, ...] = (), autoattack: bool = False) -> None:
    """Attack a digit classifier with and without purification, under four threat models (Table 3).

    **For example**

        nearfar reproduce table3 --data-root data --out table3
        nearfar reproduce table3 --out quick --quick --rows NRE
        nearfar reproduce table3 --data-root data --out autoattack --autoattack

    Parameters
    ----------
    rows
        Rows to measure: no-defense, autoencoder, MagNet-reformer, MagNet-whole, MagNet-like-ours,
        NRE, NRE-denoising, nearfar, nearfar-neighbors, nearfar-neighbors-whole,
        nearfar-unrelated, nearfar-unrelated-neighbors, adversarial-training, binarization.
        Default: all.
    autoattack
        Instead, attack 1,000 images with AutoAttack at ε = 0.3, using gradients of the whole
        defense. Rows: no-defense, nearfar, nearfar-unrelated, adversarial-training, binarization.
    """
    from nearfar.experiments.table3 import TABLE3, TABLE3_AUTOATTACK

    _run(TABLE3_AUTOATTACK if autoattack else TABLE3, options, rows)


@reproduce.command
def table4(
    *,
    options: RowOptions,
    epochs: int | None = None,
    rows: tuple[str, ...] = (),
    ablation: bool = False,
    alocc: bool = False,
    validation: bool = False,
) -> None:
    """Detect anomalies on UCSD Ped2 (Table 4).

    **For example**

        nearfar reproduce table4 --data-root data --out table4
        nearfar reproduce table4 --data-root data --out ours --rows tempo-appearance
        nearfar reproduce table4 --data-root data --out ablation --ablation
        nearfar reproduce table4 --data-root data --out alocc --alocc
        nearfar reproduce table4 --data-root data --out validation --validation

    Parameters
    ----------
    epochs
        Total training epochs of the convolutional networks. Default: 20, 10 with --alocc, or 2 with
        --quick.
    rows
        Rows to measure: autoencoder, two-autoencoders, NRE-0.6-0.2-0.2, NRE-0.6-0.4-0,
        NRE-0.6-0.4-0-bank, autoencoder-no-overlap, NRE-0.6-0.4-0-no-overlap,
        autoencoder-2-frames, NRE-0.6-0.4-0-2-frames, autoencoder-2-frames-no-overlap,
        NRE-0.6-0.4-0-2-frames-no-overlap, autoencoder-convolutions,
        NRE-0.6-0.4-0-convolutions, tempo, appearance, tempo-appearance. Default: all.
    ablation
        Change the settings of the motion method, tempo, one at a time. Rows: tempo, no-smoothing,
        longer-smoothing, half-overlap, no-overlap, scores-by-row, place-unknown, no-gliding,
        no-fast, no-grown, 2-frames, 3-frames, 8-frames.
    alocc
        Use the network and the frames of the authors' earlier code (ALOCC, 2018): pixel rows 100 to
        240 of 600 normal frames, with patches every 25 pixels, and every 10 pixels for testing.
        Rows: autoencoder, NRE-0.6-0.2-0.2, NRE-0.6-0.4-0.
    validation
        Score held-out normal clips with Caltech-101 photographs moving through them, to choose
        settings. Each of four seeds holds out different clips. Test clips are not read.
    """
    from nearfar.experiments.table4 import TABLE4, TABLE4_ABLATION, TABLE4_ALOCC

    table = TABLE4_ABLATION if ablation else TABLE4_ALOCC if alocc else TABLE4
    _run(table.validated() if validation else table, options, rows, epochs=epochs)


@reproduce.command
def figure1(*, options: Options) -> None:
    """Plot embeddings of photographs from five classes in 2D, before and after NRE (Figure 1).

    **For example**

        nearfar reproduce figure1 --data-root data --out figure1
    """
    from nearfar.experiments.figure1 import FIGURE1

    _run(FIGURE1, options)


@reproduce.command
def figure4(*, options: Options) -> None:
    """Reconstruct digits with NRE and with the plain autoencoder (Figure 4).

    **For example**

        nearfar reproduce figure4 --data-root data --out figure4
    """
    from nearfar.experiments.figure4 import FIGURE4

    _run(FIGURE4, options)


@reproduce.command
def scale(*, options: Options, epochs: int | None = None) -> None:
    """Measure the accuracy of RBF SVMs on autoencoder and NRE embeddings as a function of γ.

    γ is given as a multiple of the inverse variance of the embeddings.

    **For example**

        nearfar reproduce scale --data-root data --out scale

    Parameters
    ----------
    epochs
        Total epochs of training. Default: 100, or 4 with --quick.
    """
    from nearfar.experiments.scale import SCALE

    _run(SCALE, options, epochs=epochs)


@reproduce.command
def protocol(
    *,
    options: RowOptions,
    epochs: tuple[int, ...] = (),
    rows: tuple[str, ...] = (),
    rbf_samples: int | None = None,
) -> None:
    """Search for the settings that Table 1 does not state, with the plain autoencoder.

    **For example**

        nearfar reproduce protocol --data-root data --out protocol --seeds 1
        nearfar reproduce protocol --data-root data --out full --seeds 1 --rows alocc \
            --epochs 40 100 --rbf-samples 50000

    Parameters
    ----------
    epochs
        Numbers of epochs after which to evaluate. Default: 4 10, or 1 2 with --quick.
    rows
        Rows to measure. Default: all. If a name is unknown, the list of rows is printed.
    rbf_samples
        Maximum number of training images for both SVMs. Default: 10,000.
    """
    from nearfar.experiments.protocol import PROTOCOL

    _run(PROTOCOL, options, rows, epochs=epochs or None, rbf_samples=rbf_samples)


@reproduce.command
def claims(*, options: Options) -> None:
    """Test the four claims in section 3.2 of the paper statistically, with several seeds.

    **For example**

        nearfar reproduce claims --data-root data --out claims
    """
    from nearfar.experiments.claims import CLAIMS

    _run(CLAIMS, options)


@reproduce.command
def ablation(*, options: RowOptions, rows: tuple[str, ...] = ()) -> None:
    """Change the paper's settings one at a time, and evaluate on validation digits.

    **For example**

        nearfar reproduce ablation --data-root data --out ablation
        nearfar reproduce ablation --data-root data --out ablation --rows paper T=5 T=10

    Parameters
    ----------
    rows
        Rows to measure. Default: all. If a name is unknown, the list of rows is printed.
    """
    from nearfar.experiments.ablation import ABLATION

    _run(ABLATION, options, rows)


@reproduce.command
def recipes(
    *,
    options: RowOptions,
    data: Literal["mnist", "caltech", "elpv", "flowers", "imagenette", "tiny-imagenet"] = "mnist",
    epochs: int | None = None,
    rows: tuple[str, ...] = (),
) -> None:
    """Compare our recipe with the paper's and with SimCLR, NNCLR, VICReg and BYOL.

    This requires nearfar[baselines].

    **For example**

        nearfar reproduce recipes --data-root data --out recipes
        nearfar reproduce recipes --data caltech --data-root data --out photographs
        nearfar reproduce recipes --out quick --quick --rows autoencoder nearfar SimCLR

    Parameters
    ----------
    data
        Images to use: digits (mnist), or photographs: nine classes of Caltech-101, ELPV solar
        cells, flowers, Imagenette, or a quarter of the classes of Tiny-ImageNet.
    epochs
        Total training epochs of each row. Default: as in our recipe, or 2 with --quick.
    rows
        Rows to measure: pixels, autoencoder, paper, nearfar, SimCLR, NNCLR, VICReg, BYOL.
        Default: all.
    """
    from nearfar.experiments.recipes import PHOTOGRAPHS_COMPARISON, RECIPE_COMPARISON

    _run(PHOTOGRAPHS_COMPARISON.get(data, RECIPE_COMPARISON), options, rows, epochs=epochs)


@reproduce.command
def continued(
    *,
    options: RowOptions,
    data: Literal["caltech", "elpv", "flowers", "imagenette", "tiny-imagenet"] = "flowers",
    epochs: int | None = None,
    rows: tuple[str, ...] = (),
) -> None:
    """Continue training a pretrained EfficientNet-lite0, and compare with the original.

    This requires nearfar[photos], and nearfar[baselines] for SimCLR, NNCLR, VICReg and BYOL.

    **For example**

        nearfar reproduce continued --data flowers --data-root data --out continued-flowers
        nearfar reproduce continued --out quick --quick --rows pretrained continued

    Parameters
    ----------
    data
        Photographs to use, at 96 pixels: nine classes of Caltech-101, ELPV solar cells, flowers,
        Imagenette, or a quarter of the classes of Tiny-ImageNet.
    epochs
        Total epochs of each row that is trained. Default: 8, or 2 with --quick.
    rows
        Rows to measure: pixels, random, pretrained, continued, without-near, without-far,
        without-distillation, SimCLR, NNCLR, VICReg, BYOL. Default: all.
    """
    from nearfar.experiments.continued import CONTINUED

    _run(CONTINUED[data], options, rows, epochs=epochs)


def _run(
    table: Table[Any, Any], options: Options, rows: tuple[str, ...] = (), **fields: Any
) -> None:
    """Compute a table, and print the table and the output folder."""
    from nearfar.experiments import read_rows, run
    from nearfar.training import Interrupted

    if isinstance(options, RowOptions) and options.rows_from is not None:
        table = table | read_rows(options.rows_from)
    try:
        text = run(
            table,
            options.out,
            data_root=options.data_root,
            seeds=options.seeds,
            rows=rows,
            quick=options.quick,
            track=bars(),
            **{name: value for name, value in fields.items() if value is not None},
        )
    except Interrupted as stop:
        raise KeyboardInterrupt("stopped: run the same command again to continue") from stop
    print(text)
    print(f"this table, its figure and every cell are in {shown(options.out)}")
