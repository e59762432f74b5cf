"""x."""
def neighbors():
    """Demo."""
