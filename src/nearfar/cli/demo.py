"""x."""


def demo():
    """Demo."""
