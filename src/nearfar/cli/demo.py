"""``nearfar demo``."""

from __future__ import annotations

from pathlib import Path

from nearfar.cli.evaluate import evaluate
from nearfar.cli.options import Overwrite
from nearfar.cli.report import report
from nearfar.cli.train import train
from nearfar.cli.train_options import TrainOptions

DEMO = TrainOptions(pretrain_epochs=30, epochs=30, batch_size=64, lr=1e-3, pixel_weight=1.0)


def demo(
    *,
    out: Path = Path("demo"),
    overwrite: Overwrite = False,
) -> None:
    """Train on 4,000 handwritten digits, evaluate on 1,000, and write the report.

    Takes a few minutes on two processor cores; no network is needed.

    **For example**

        nearfar demo
        nearfar demo --out runs/demo --overwrite

    Parameters
    ----------
    out
        Run folder to write.
    """
    train("mnist5k:train", out=out, options=DEMO, overwrite=overwrite)
    evaluate(str(out), train="mnist5k:train", test="mnist5k:test")
    report(str(out), data="mnist5k:test", overwrite=overwrite)
