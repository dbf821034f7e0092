"""Messages for the user: the ancestor of all errors that carry one, and foreign text in a form fit for a message."""

from __future__ import annotations

from kis_core.read_only import VARIABLE, read_only, without_folders

MOST_SHOWN = 200  # characters of a foreign text in a message: enough to recognise it


class KisError(Exception):
    """A fault that the user can act on: the message says where it is, what was found, and what to do.

    In read-only mode the message tells no folder of this machine.
    """

    def __str__(self) -> str:
        return without_folders(super().__str__())


class NotOffered(KisError):
    """Something that a process in read-only mode does not do."""


def refuse_if_read_only(what: str) -> None:
    """Stand in the way of whatever read-only mode closes; `what` begins the message, as in "Computing".

    Raises:
        NotOffered: this process is in read-only mode.
    """
    if read_only():
        raise NotOffered(f"{what} is not possible: {VARIABLE} is set, and only what is stored is shown.")


def shown(text: str, most: int | None = MOST_SHOWN) -> str:
    r"""Text from a file, a name or a foreign library in a form fit for a message: printable, and not too long.

    Control characters (with which a text could drive the terminal), marks that turn the direction of writing, and
    whatever else has no glyph appear as their escapes, such as `\x1b`.
    """
    cut = text if most is None or len(text) <= most else f"{text[:most]}…"
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in cut)
