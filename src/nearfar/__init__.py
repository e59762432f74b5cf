"""Image representations without labels, by neighborhood-relational encoding (NRE)."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nearfar.estimator import NRE as NRE
    from nearfar.training.recipes import recipe as recipe

__all__ = ["NRE", "__version__", "recipe"]


def __getattr__(name: str) -> Any:
    """Load what needs torch only when it is asked for, so that ``nearfar --help`` is quick."""
    if name == "NRE":
        from nearfar.estimator import NRE

        return NRE
    if name == "recipe":
        from nearfar.training.recipes import recipe

        return recipe
    raise AttributeError(f"module 'nearfar' has no attribute {name!r}")
