"""The command line: it parses, calls the library and saves what comes back."""

from nearfar.cli.main import main

__all__ = ["main"]
