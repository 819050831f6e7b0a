"""Texts in messages."""

SHOWN = 100
"""Letters of a text that a message shows."""


def shown(text: str) -> str:
    """A text in a message: on one line, and not all of a very long one."""
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} letters)")
