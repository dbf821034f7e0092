"""Messages for the user: the one ancestor of errors that carry one, and text of others made fit to stand in it."""

from __future__ import annotations

MOST_SHOWN = 200  # characters of a text of others in a message: enough to recognise it by


class KisError(Exception):
    """Something the user can act on: the message says where, what was found, and what to do."""


def shown(text: str, most: int | None = MOST_SHOWN) -> str:
    r"""Text of a file, a name or a foreign library as a message may hold it: printable, and not too long.

    Control characters (with which a text could drive the terminal), marks that turn the direction of writing, and
    whatever else has no glyph appear as their escapes, such as `\x1b`.
    """
    cut = text if most is None or len(text) <= most else f"{text[:most]}…"
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in cut)
