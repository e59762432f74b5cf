"""Experiments: tables and figures as values, and one runner that measures them.

Each table is a value in a module of its name, such as `nearfar.experiments.table1.TABLE1`. Your own
rows are added with ``|``, see `nearfar.experiments.run`.
"""

from nearfar.experiments.rows import Network, Row, read_rows
from nearfar.experiments.table import Table, run

__all__ = ["Network", "Row", "Table", "read_rows", "run"]
