"""Experiments that reproduce the tables and figures of the paper.

Each table is an object in its own module, such as `nearfar.experiments.table1.TABLE1`. The function
`run` measures a table. To add rows to a table, use ``table | rows``, see `Table`.

A table has `rows` and `columns`. For each seed, `run` opens the images (`Splits`), trains the
network of each row unless a finished run exists (`Runner`), and measures the cells of the row
(`Results`). Each cell is written to a file immediately, so that an interrupted experiment can be
continued. Reports are generated from these files only.
"""

from nearfar.experiments.rows import Network, Row, read_rows
from nearfar.experiments.table import Table, run

__all__ = ["Network", "Row", "Table", "read_rows", "run"]
