"""x."""


def report():
    """Demo."""
