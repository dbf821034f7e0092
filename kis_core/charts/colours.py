"""Colours of the charts: each has one shade for a light page and one for a dark page.

Vega knows the page's background as the signal `background`; the shade is chosen by it in the browser, so that a chart
is the same specification on any page and needs no redrawing when the theme changes. On its own background every shade
of a text has a contrast of at least 4.5 : 1, every other at least 3 : 1 (WCAG 2.1, success criteria 1.4.3 and 1.4.11).
"""

from __future__ import annotations

from typing import NamedTuple

import altair as alt

DARK_BELOW = 0.18  # luminance of a background on which white is read better than black


class Shades(NamedTuple):
    """A colour, for a light and for a dark page."""

    light: str
    dark: str


def shade(shades: Shades) -> alt.ExprRef:
    """The colour that is read on the page's background."""
    return alt.ExprRef(f"luminance(background) < {DARK_BELOW} ? '{shades.dark}' : '{shades.light}'")


def on(ground: str) -> str:
    """Vega's expression for black or white, whichever is read better on a ground that is an expression itself."""
    return f"luminance({ground}) < {DARK_BELOW} ? 'white' : 'black'"


CATEGORICAL = (
    Shades("#0072b2", "#56b4e9"),
    Shades("#c25200", "#ff9d5c"),
    Shades("#00855f", "#4cc9a0"),
    Shades("#b5508c", "#e39bc4"),
    Shades("#a87400", "#f0c14b"),
    Shades("#2f86bf", "#9ecbff"),
)
"""After Okabe and Ito, darkened or lightened until they stand out; everyone tells them apart. Also in `config.toml`."""
DIVERGING = (
    ("#08306b", "#1c5ba8", "#4a90c9", "#92c1e0", "#eef3f7", "#f8f2ec", "#f5c08a", "#e8862e", "#b85a0c", "#6e3304"),
    ("#bfe0ff", "#74b9f5", "#3a8ad6", "#1f5590", "#17283c", "#2b2219", "#7d4a17", "#c9741f", "#f5a044", "#ffdcae"),
)
"""From negative over 0, which recedes into the page, to positive: on light and on dark. Also in `config.toml`."""
SEQUENTIAL = (
    Shades("#c48a00", "#6b79e0"),
    Shades("#cf6a1a", "#9a6ee0"),
    Shades("#c2453f", "#d673c4"),
    Shades("#a3347e", "#f58b8b"),
    Shades("#6a3d9a", "#ffb866"),
    Shades("#2b2b6b", "#fff2a8"),
)
"""From few to many, or from young to old: the last one stands out most."""

BLUE, ORANGE, GREEN, PINK, AMBER, SKY = map(shade, CATEGORICAL)
VIOLET_SHADES, INK_SHADES, MUTED_SHADES, FAINT_SHADES = (
    Shades("#6a3d9a", "#b79cf0"),
    Shades("#1b1f27", "#f2f3f5"),
    Shades("#5d6470", "#a6adba"),
    Shades("#8d949e", "#6b7380"),
)
VIOLET = shade(VIOLET_SHADES)
INK = shade(INK_SHADES)  # rings, and what is to be seen first
MUTED = shade(MUTED_SHADES)  # axes, names, and lines to compare with
FAINT = shade(FAINT_SHADES)  # the least that is seen: where little is
PAPER = alt.ExprRef("background")  # around a ring or a dot, so that it stands out on any other mark


def ramp(count: int) -> list[alt.ExprRef]:
    """So many colours from the first of `SEQUENTIAL` to the last, evenly."""
    if count == 1:
        return [shade(SEQUENTIAL[-1])]
    return [shade(_between((len(SEQUENTIAL) - 1) * at / (count - 1))) for at in range(count)]


def _between(place: float) -> Shades:
    """Both shades at a place in `SEQUENTIAL`, which need not be a whole number."""
    before = min(int(place), len(SEQUENTIAL) - 2)
    weight = place - before
    first, second = SEQUENTIAL[before], SEQUENTIAL[before + 1]
    return Shades(_mixed(first.light, second.light, weight), _mixed(first.dark, second.dark, weight))


def _mixed(first: str, second: str, weight: float) -> str:
    pairs = zip(bytes.fromhex(first[1:]), bytes.fromhex(second[1:]), strict=True)
    return "#" + bytes(round((1 - weight) * a + weight * b) for a, b in pairs).hex()
