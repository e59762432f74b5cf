"""Experiments that reproduce the paper's tables and figures.

Each table is an object in its own module, such as `nearfar.experiments.table1.TABLE1`; `run`
measures it. To add rows to a table, use ``|``, see `run`.

A table has `rows` and `columns`. For each seed, `run` opens the images (`Splits`), trains the
network of each row unless its run exists (`Runner`), and measures its cells (`Results`). Each cell
is written to a file immediately, so that an interrupted experiment can be continued. Reports are
generated from the cells only.
"""

from nearfar.experiments.rows import Network, Row, read_rows
from nearfar.experiments.table import Table, run

__all__ = ["Network", "Row", "Table", "read_rows", "run"]
