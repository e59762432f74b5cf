"""Image representations without labels, by neighborhood-relational encoding (NRE)."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nearfar.estimator import NRE as NRE

__all__ = ["NRE", "__version__"]


def __getattr__(name: str) -> Any:
    """Load what needs torch only when it is asked for, so that ``nearfar --help`` is quick."""
    if name == "NRE":
        from nearfar.estimator import NRE

        return NRE
    raise AttributeError(f"module 'nearfar' has no attribute {name!r}")
