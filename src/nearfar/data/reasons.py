"""Why a file cannot be read, in one line that is safe to print."""

from __future__ import annotations

LONGEST = 200


def reason(error: BaseException) -> str:
    """What the error says, without line breaks, terminal escapes or undecodable characters."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = printable(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def printable(text: str) -> str:
    """The text itself, or with escapes in place of what cannot be printed."""
    return text if text.isprintable() else repr(text)[1:-1]
