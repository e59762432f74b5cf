"""Command ``nearfar demo``."""

from __future__ import annotations

from pathlib import Path

from nearfar.cli.evaluate import evaluate
from nearfar.cli.options import OverwriteFiles
from nearfar.cli.report import report
from nearfar.cli.train import train
from nearfar.cli.train_options import TrainOptions

#: Fewer epochs than by default: installation and demo together take at most five minutes.
PAPER = TrainOptions(pretrain_epochs=15, epochs=15, batch_size=64, lr=1e-3)
OURS = TrainOptions(epochs=30)


def demo(
    *,
    out: Path = Path("demo"),
    overwrite: OverwriteFiles = False,
) -> None:
    """Train on 4,000 digits with the paper's recipe and with ours, and compare on 1,000 others.

    This takes a few minutes on two CPU cores and requires no Internet access. Scores vary slightly
    with the machine and the number of threads.

    **For example**

        nearfar demo
        nearfar demo --out runs/demo --overwrite

    Parameters
    ----------
    out
        Folder for the two runs, paper and nearfar. The report is in nearfar.
    """
    from nearfar.runs import read_evaluation, write_evaluation

    paper, ours = out / "paper", out / "nearfar"
    train("mnist5k:train", out=paper, recipe="paper", options=PAPER, overwrite=overwrite)
    train("mnist5k:train", out=ours, recipe="nearfar", options=OURS, overwrite=overwrite)
    evaluate(str(paper), train="mnist5k:train", test="mnist5k:test", beside=[str(ours)])
    write_evaluation(ours, read_evaluation(paper) or {})  # for the report
    report(str(ours), data="mnist5k:test", overwrite=overwrite)
