"""The studies as they were committed: how fast models forget, how well that was forecast, and methods side by side."""

from __future__ import annotations

import streamlit as st

from kis_core import charts
from kis_core.editing import METHODS
from kis_core.studies import forgetting, league
from kis_core.wording import counted
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, caption, figure
from pages.parts.figures.grid import grid
from pages.parts.frame.glossary import explain
from pages.parts.frame.page import split
from pages.parts.frame.text import plain
from pages.parts.lifelong.view import RunView

NAMES = {method.name: method.label for method in METHODS}
HELP = (
    "`python -m kis_core forgetting` makes these runs again; tables and all settings are in docs/forgetting.md. A run "
    "ends when half of the unrelated facts are forgotten, or after as many edits as it was given: a triangle then says "
    "“at least”. Bars: 95 % interval of the geometric mean over seeds (Student’s t on logarithms), which is wide with "
    "few seeds."
)


def study(view: RunView) -> None:
    """The figure of the study at the layer shown, what it says of the theory, and the league table."""
    _forgetting(view)
    _league(view)


def _forgetting(view: RunView) -> None:
    rows = forgetting.committed()
    here = rows[rows["layer"] == view.layer]
    if here.empty:
        layers = ", ".join(map(str, sorted(rows["layer"].unique())))
        st.info(f"The study has layers {layers} of the demo family; choose one of them.", icon=":material/layers:")
        return
    lives = forgetting.lifetimes(here[here["draw"] == "random"])
    lives = lives.assign(name=[NAMES[str(name)] for name in lives["method"]])
    left, right = split(1.5, 1, key="split-study")
    with left:
        figure(
            view,
            drawing(charts.lifetimes, lives),
            FigureText(
                title=f"Edits until half is forgotten, layer {view.layer}",
                caption=f"The committed study: the demo family at layer {view.layer}, "
                f"{counted(int(here['seed'].nunique()), 'seed')}, edits at random; not the run above.",
                help=HELP,
                data=lambda: lives,
                code="from kis_core.studies import forgetting\n\nrows = forgetting.committed()\n"
                f"lives = forgetting.lifetimes(rows[(rows['layer'] == {view.layer}) & (rows['draw'] == 'random')])",
                brief=True,
            ),
            key="lifetimes",
        )
    with right:
        st.markdown("**How good are the forecasts?**")
        st.markdown("\n".join(f"- {line}" for line in forgetting.findings(rows)))
        st.caption(plain("All tables: docs/forgetting.md"))


def _league(view: RunView) -> None:
    """Methods side by side on the model and layer shown, after the most edits measured; nothing before it was made."""
    rows = league.committed()
    if rows.empty:
        return
    table = league.standings(rows)
    here = table[(table["model"] == view.request.model) & (table["layer"] == view.layer)]
    if here.empty:
        there = ", ".join(dict.fromkeys(f"{row.model} layer {row.layer}" for row in table.itertuples()))
        st.caption(plain(f"The league table of methods has: {there}."))
        return
    most = int(here["edits"].max())
    here = here[here["edits"] == most].drop(columns=league.GROUPS)
    heads = {"method": "method", "half_life": "half-life"} | league.MEASURES
    grid(here, {name: st.column_config.TextColumn(head) for name, head in heads.items()}, hide_index=True, key="league")
    text = FigureText(
        title=f"Methods after {counted(most, 'edit')}, layer {view.layer}",
        caption=f"The committed study of {plain(view.request.model)}, the longest half-life first; not the run above. "
        f"{plain(league.PROTOCOL)}",
        help=explain("half-life", "edits in force", "perplexity"),
        data=lambda: here,
        code="from kis_core.studies import league\n\nframe = league.standings(league.committed())",
    )
    caption(view, text, key="league-table")
