"""Cut-paste method: a network trained to detect artificial changes to normal images."""

from nearfar.anomaly.methods.cut_paste.examples import Example, change
from nearfar.anomaly.methods.cut_paste.method import CutPaste
from nearfar.anomaly.methods.cut_paste.network import (
    CutPasteNet,
    CutPasteTraining,
    train_cut_paste_net,
)

__all__ = [
    "CutPaste",
    "CutPasteNet",
    "CutPasteTraining",
    "Example",
    "change",
    "train_cut_paste_net",
]
