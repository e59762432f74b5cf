"""Command-line interface: parses arguments, calls the library and saves the results."""

from nearfar.cli.main import main

__all__ = ["main"]
