"""x."""
def report():
    """Demo."""
