"""x."""
def demo():
    """Demo."""
