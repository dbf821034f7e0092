"""Text of users and models on its way to the screen: always as text, never as markup."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any

from kis_core.facts import SLOT, Fact


def sentence(fact: Fact) -> str:
    """The fact as HTML, escaped, with the subject in bold and the right answer at the end."""
    before, after = fact.prompt.split(SLOT, 1)
    return f"{escape(before)}<b>{escape(fact.subject)}</b>{escape(after)} <i>{escape(fact.target)}</i>"


def plain(text: str) -> str:
    """Text for a place that reads Markdown, with every mark that Markdown could act on disarmed."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|<>~$:@&^=/])", r"\\\1", text)


def named(model: str) -> str:
    """A model's name where there is little room: of a folder the last part."""
    return Path(model).name if Path(model).is_absolute() else model


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


def share(probability: float) -> str:
    """A probability in per cent, never rounded to a false 0 or 100."""
    if probability < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if probability > 0.999 else f"{probability:.1%}".replace("%", " %")


def text_behind(how: dict[str, Any]) -> str:
    """How C is taken, as people say it: wikipedia · 100,000 documents · bfloat16."""
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
