"""Text of users and models on its way to the screen: always as text, never as markup."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from kis_core.facts import SLOT, Fact
from kis_core.models import catalog

NAME_CHARACTERS = 32  # of a model: what fits the sidebar
JOINER = "\u2060"  # of words: it has no width, and no line breaks at it
LIVE = re.compile(
    r"(?<=:)(?=//)|(?<=www)(?=\.)|(?=@)"  # addresses, which become links
    r"|(?<=:)(?=[\w+/-]+:)"  # names of emoji and icons
    r"|(?<=-)(?=[->])|(?<=<)(?=[-=])|(?<=[>~])(?==)",  # arrows and other signs
    re.IGNORECASE,
)
"""Where the joiner goes in what the browser turns into something else once Markdown is read."""


def sentence(fact: Fact) -> str:
    """The fact as HTML, escaped, with the subject in bold and the right answer at the end."""
    before, after = fact.prompt.split(SLOT, 1)
    return f"{escape(before)}<b>{escape(fact.subject)}</b>{escape(after)} <i>{escape(fact.target)}</i>"


def plain(text: str) -> str:
    """Text for a place that reads Markdown, with every mark that Markdown could act on disarmed.

    Addresses, names of emoji and arrows are replaced after Markdown is read, whatever was escaped: there an invisible
    joiner keeps the characters apart.
    """
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|<>~$:@&^=/])", r"\\\1", LIVE.sub(JOINER, text))


def named(model: str, among: Iterable[str] = ()) -> str:
    """A model's title or name where there is little room: of a folder the last part, and more if others end so too.

    Args:
        model: a name, or an absolute path.
        among: the models it stands beside.
    """
    if not Path(model).is_absolute():
        entry = catalog.find(model)
        return middle(entry.title if entry and entry.title else model)
    others = [Path(other).parts for other in among if other != model]
    parts = Path(model).parts
    taken = next((n for n in range(1, len(parts)) if all(other[-n:] != parts[-n:] for other in others)), len(parts))
    return middle(str(Path(*parts[-taken:])))


def middle(text: str, most: int = NAME_CHARACTERS) -> str:
    """A text of at most so many characters: what is too much is left out in its middle, for names differ at the end."""
    if len(text) <= most:
        return text
    return f"{text[: (most - 1) // 2]}…{text[len(text) - most // 2 :]}"


def count(number: float) -> str:
    """A number as people say it: 0.40 M, 1.19 M, 6.7 B."""
    if number >= 1e9:
        return f"{number / 1e9:.3g} B"
    return f"{number / 1e6:.2f} M" if number >= 1e4 else f"{number:,.0f}"


def duration(seconds: float) -> str:
    """A time span as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def text_behind(how: dict[str, Any]) -> str:
    """How C is taken, as people write it: wikipedia · 100,000 documents · bfloat16."""
    parts = [Path(how["corpus"]).name]
    parts += [f"{how[name]:,} {name}" for name in ("documents", "tokens") if how[name] is not None]
    if how["layers"] is not None:
        parts.append(f"layers {', '.join(map(str, how['layers']))}")
    if how["settled"] is not None:
        parts.append(f"until P moves less than {how['settled']:.1%}")
    return " · ".join(parts + ([how["dtype"]] if how["dtype"] != "float32" else []))


def volume(count: float) -> str:
    """Bytes as people read them: 94.9 kB, 1.2 GB."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 999.5 and len(units) > 1:
        count, units = count / 1000, units[1:]
    return f"{count:.3g} {units[0]}"
