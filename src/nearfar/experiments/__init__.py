"""Experiments: the paper's tables and figures as values, and one runner that measures them.

A table has rows by label. Your own rows are added with ``|``; nothing of nearfar has to be edited.
"""

from nearfar.experiments.ablation import ABLATION
from nearfar.experiments.claims import CLAIMS, PairRow
from nearfar.experiments.defenses import DefenseRow
from nearfar.experiments.detectors import DetectorRow, PatchNetwork
from nearfar.experiments.figure1 import FIGURE1
from nearfar.experiments.figure4 import FIGURE4
from nearfar.experiments.recipes import PHOTOGRAPHS, RECIPES
from nearfar.experiments.table import Network, Row, Table, read_rows, run
from nearfar.experiments.table1 import TABLE1
from nearfar.experiments.table2 import TABLE2, TABLE2_FULL, TransferRow
from nearfar.experiments.table3 import TABLE3
from nearfar.experiments.table4 import TABLE4, TABLE4_ABLATION

__all__ = [
    "ABLATION",
    "CLAIMS",
    "FIGURE1",
    "FIGURE4",
    "PHOTOGRAPHS",
    "RECIPES",
    "TABLE1",
    "TABLE2",
    "TABLE2_FULL",
    "TABLE3",
    "TABLE4",
    "TABLE4_ABLATION",
    "DefenseRow",
    "DetectorRow",
    "Network",
    "PairRow",
    "PatchNetwork",
    "Row",
    "Table",
    "TransferRow",
    "read_rows",
    "run",
]
