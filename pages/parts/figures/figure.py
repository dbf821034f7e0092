"""A figure: the chart, a line that says what it shows and from what, help, and everything one can take home."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from kis_core import charts
from kis_core.request import C_SETTINGS, Request
from kis_core.results import export
from kis_core.results.result import Result
from pages.parts.figures.drawing import Drawing
from pages.parts.frame.page import View
from pages.parts.frame.provenance import origin
from pages.parts.frame.text import plain


@dataclass(frozen=True)
class FigureText:
    """What is said about a figure.

    Attributes:
        title: its name, also on exported pictures.
        caption: one line in plain words.
        help: equation and figure number of the paper, and how to read it. Markdown.
        data: the numbers drawn.
        code: Python lines that give the same numbers from `result` and `p`.
        layer: the layer shown, or None for all.
        brief: leave the provenance to the help, where a figure above already says it.
        narrow: Python lines that keep the facts the model answers, where only those are looked at.
        also: another result and its layer, where the numbers come from two.
    """

    title: str
    caption: str
    help: str
    data: Callable[[], pd.DataFrame]
    code: str
    layer: int | None = None
    brief: bool = False
    narrow: str = 'result = result.subset([i for i, known in enumerate(result.known) if known], "known")'
    also: tuple[Result, int] | None = None


def figure(view: View, result: Result, chart: Drawing, about: FigureText, *, key: str, **options: Any) -> Any:
    """Draw a chart with its caption, provenance, help and export; returns Streamlit's event of the chart.

    Args:
        view: what is looked at.
        result: where its numbers come from.
        chart: what to draw.
        about: what to say.
        key: of the chart; the export gets the part before the first digit.
        options: for `st.vega_lite_chart`.
    """
    event = chart.show(key=key, alt=_unmarked(f"{about.title}. {about.caption}"), **options)
    say(view, result, about, chart=chart, key=key)
    return event


def say(view: View, result: Result, about: FigureText, *, chart: Drawing | None, key: str) -> None:
    """The lines under a figure or a table, and its export."""
    words, export_at = st.columns([7.5, 1], gap="small")
    provenance = "  \n".join(plain(one) for one in origins(result, about))
    if about.brief:
        words.caption(about.caption, help=f"{about.help}\n\n{provenance}")
    else:
        words.caption(f"{about.caption}  \n{provenance}", help=about.help)
    with export_at.popover(
        ":material/download:", type="tertiary", key=f"export-{key}", help="Export: PNG, SVG, CSV, NPZ, Python"
    ):
        _export(view, result, about, chart, key)


def origins(result: Result, about: FigureText) -> list[str]:
    """Where the numbers come from: one line, or two where they come from two results."""
    also = [origin(*about.also)] if about.also else []
    return [origin(result, about.layer), *also]


def _export(view: View, result: Result, about: FigureText, chart: Drawing | None, key: str) -> None:
    stem = re.sub(r"[^a-z0-9]+", "-", about.title.lower()).strip("-")
    caption, *others = [_unmarked(about.caption), *origins(result, about)]
    lines = [line for text in (f"{caption} {others[0]}", *others[1:]) for line in _wrapped(text)]
    kinds: list[tuple[str, str, Callable[[], bytes | str]]] = []
    if chart is not None:
        kinds += [
            ("PNG", "image/png", lambda: charts.to_png(chart.make(), about.title, lines)),
            ("SVG", "image/svg+xml", lambda: charts.to_svg(chart.make(), about.title, lines)),
        ]
    kinds += [
        ("CSV", "text/csv", lambda: export.frame_csv(about.data())),
        ("NPZ", "application/octet-stream", lambda: export.npz(result)),
    ]
    with st.container(horizontal=True, gap="small"):
        for kind, mime, made in kinds:
            st.download_button(
                kind,
                made,
                f"{stem}.{kind.lower()}",
                mime,
                key=f"download-{kind}-{key}",
                on_click="ignore",
                help=KINDS[kind],
            )
    st.caption("The same numbers in Python:")
    st.code(f"{preamble(view, about)}\n{about.code}", language="python")


KINDS = {
    "PNG": "the figure as a picture, with title and provenance",
    "SVG": "the figure as a drawing that scales",
    "CSV": "the numbers drawn",
    "NPZ": "P and both cosines of every layer, and the layer numbers",
}


def preamble(view: View, about: FigureText) -> str:
    """Python lines that get `result`, and `p` of the layer, as the page shows them."""
    lines = [
        "from kis_core import charts, pairs, statistics",
        "from kis_core.analysis.pipeline import Request, run",
        "from kis_core.store.store import Store",
        "",
        f"result = run(Request({asked(view.request)}), Store())",
    ]
    if view.known_only:
        lines.append(about.narrow)
    if about.layer is not None:
        lines.append(f"p = result.p[result.at({about.layer})]")
    return "\n".join(lines)


def asked(request: Request) -> str:
    """A request's fields as Python has them, where they differ from the default."""
    named = ((name, getattr(request, name)) for name in ("model", "facts", *C_SETTINGS))
    return ", ".join(f"{name}={value!r}" for name, value in named if value != getattr(Request(), name))


def _unmarked(markdown: str) -> str:
    return re.sub(r"[*`\\]", "", markdown)


def _wrapped(text: str, width: int = 150) -> list[str]:
    words, lines = text.split(), [""]
    for word in words:
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
