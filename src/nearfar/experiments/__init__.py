"""Experiments: the paper's tables and figures as values, and `run`, which measures them.

Each table is a value in a module of its name, such as `nearfar.experiments.table1.TABLE1`. Add rows
of your own with ``|``, see `run`.

A table has `rows` and `columns`. For each seed, `run` opens the images (`Splits`), trains a row's
network unless its run exists (`Runner`), and measures its cells (`Results`), each of which is
written to a file at once, so that an interrupted experiment continues. A report is drawn from the
cells alone.
"""

from nearfar.experiments.rows import Network, Row, read_rows
from nearfar.experiments.table import Table, run

__all__ = ["Network", "Row", "Table", "read_rows", "run"]
