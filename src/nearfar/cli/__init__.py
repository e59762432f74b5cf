"""Command-line interface, which parses arguments, calls the library and saves results."""

from nearfar.cli.main import main

__all__ = ["main"]
