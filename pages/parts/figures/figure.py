"""A figure: the chart, a line that says what it shows and from what, help, and everything one can take home."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import pandas as pd
import streamlit as st

from kis_core import charts
from kis_core.results import export
from pages.parts.figures.drawing import Drawing
from pages.parts.frame import state
from pages.parts.frame.public import in_turn
from pages.parts.frame.text import plain

LINE = 150  # characters of a line under an exported picture
KINDS = {
    "PNG": "the figure as a picture, with title and provenance",
    "SVG": "the figure as a drawing that scales",
    "CSV": "the numbers shown",
}


class FigureView(Protocol):
    """What a figure needs to know of the result that it is drawn from, be it of few facts or of many."""

    @property
    def npz_help(self) -> str:
        """What its file of matrices holds."""

    def origin(self, *, all_layers: bool = False) -> str:
        """Where its numbers come from, in one line."""

    def npz(self) -> bytes:
        """Its matrices as a file."""

    def preamble(self, narrow: str = "", *, all_layers: bool = False) -> str:
        """Python lines that get the result as the page shows it."""


@dataclass(frozen=True)
class FigureText:
    """What is said about a figure or a table.

    Attributes:
        title: its name, also on exported pictures.
        caption: one line in plain words. Markdown.
        help: equation and figure number of the paper, and how to read it. Markdown.
        data: the numbers drawn.
        code: Python lines that give the same numbers, after those of the view's `preamble`.
        all_layers: whether it shows all layers rather than the chosen one.
        brief: leave the provenance to the help, where a figure above already says it.
        narrow: Python lines that keep the facts looked at, where they are not those that the one model answers.
        also: another view, where the numbers come from two.
    """

    title: str
    caption: str
    help: str
    data: Callable[[], pd.DataFrame]
    code: str
    all_layers: bool = False
    brief: bool = False
    narrow: str = ""
    also: FigureView | None = None

    def origins(self, view: FigureView) -> list[str]:
        """Where the numbers come from: one line, or two where they come from two views."""
        views = (view, self.also) if self.also else (view,)
        return [shown.origin(all_layers=self.all_layers) for shown in views]


@dataclass(frozen=True)
class Pick:
    """What a click on a chart does.

    Attributes:
        selection: of the chart, by its name in `kis_core.charts`.
        choose: called with the fields of what was clicked, before the page is drawn anew.
    """

    selection: str
    choose: Callable[[dict[str, Any]], object]


def figure(
    view: FigureView, chart: Drawing, text: FigureText, *, key: str, pick: Pick | None = None, **options: Any
) -> Any:
    """Draw a chart with its caption, provenance, help and export; returns Streamlit's event of the chart.

    Args:
        view: where its numbers come from.
        chart: what to draw.
        text: what to say.
        key: of the chart.
        pick: what a click does.
        options: for `st.vega_lite_chart`.
    """
    if pick is not None:
        options |= {"on_select": partial(_picked, key, pick), "selection_mode": pick.selection}
    event = chart.show(key=key, alt=_unmarked(f"{text.title}. {text.caption}"), **options)
    caption(view, text, key=key, chart=chart)
    return event


def _picked(key: str, pick: Pick) -> None:
    if clicks := state.clicked(key, pick.selection):
        pick.choose(clicks[0])


def caption(view: FigureView, text: FigureText, *, key: str, chart: Drawing | None = None) -> None:
    """The lines under a figure or a table, and its export."""
    words, export_at = st.columns([7.5, 1], gap="small")
    provenance = "  \n".join(plain(line) for line in text.origins(view))
    if text.brief:
        words.caption(text.caption, help=f"{text.help}\n\n{provenance}")
    else:
        words.caption(f"{text.caption}  \n{provenance}", help=text.help)
    files = _files(view, text, chart)
    offered = f"Export: {', '.join(kind for kind, *_ in files)}, Python"
    with export_at.popover(":material/download:", type="tertiary", key=f"export-{key}", help=offered):
        stem = re.sub(r"[^a-z0-9]+", "-", text.title.lower()).strip("-")
        with st.container(horizontal=True, gap="small"):
            for kind, mime, content in files:
                st.download_button(
                    kind,
                    in_turn(content),
                    f"{stem}.{kind.lower()}",
                    mime,
                    key=f"download-{kind}-{key}",
                    on_click="ignore",
                    help=KINDS.get(kind, view.npz_help),
                )
        st.caption("The same numbers in Python:")
        preamble = view.preamble(text.narrow, all_layers=text.all_layers)
        st.code(f"{preamble}\n{text.code}", language="python")


def _files(
    view: FigureView, text: FigureText, chart: Drawing | None
) -> list[tuple[str, str, Callable[[], bytes | str]]]:
    """What can be taken home: kind, media type, and the content, made when it is asked for."""
    first, *others = text.origins(view)
    lines = [line for words in (f"{_unmarked(text.caption)} {first}", *others) for line in _wrapped(words)]
    files: list[tuple[str, str, Callable[[], bytes | str]]] = []
    if chart is not None:
        files += [
            ("PNG", "image/png", lambda: charts.to_png(chart.make(), text.title, lines)),
            ("SVG", "image/svg+xml", lambda: charts.to_svg(chart.make(), text.title, lines)),
        ]
    return [
        *files,
        ("CSV", "text/csv", lambda: export.frame_csv(text.data())),
        ("NPZ", "application/octet-stream", view.npz),
    ]


def _unmarked(markdown: str) -> str:
    return re.sub(r"[*`\\]", "", markdown)


def _wrapped(text: str, width: int = LINE) -> list[str]:
    words, lines = text.split(), [""]
    for word in words:
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
