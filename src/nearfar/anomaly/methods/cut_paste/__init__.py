"""Near and far examples made from normal images, and a network trained on them."""

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
