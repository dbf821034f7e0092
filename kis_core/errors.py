"""Messages for the user: the ancestor of all errors that carry one, and foreign text in a form fit for a message."""

from __future__ import annotations

MOST_SHOWN = 200  # characters of a foreign text in a message: enough to recognise it


class KisError(Exception):
    """A fault that the user can act on: the message says where it is, what was found, and what to do."""


def shown(text: str, most: int | None = MOST_SHOWN) -> str:
    r"""Text from a file, a name or a foreign library in a form fit for a message: printable, and not too long.

    Control characters (with which a text could drive the terminal), marks that turn the direction of writing, and
    whatever else has no glyph appear as their escapes, such as `\x1b`.
    """
    cut = text if most is None or len(text) <= most else f"{text[:most]}…"
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in cut)
