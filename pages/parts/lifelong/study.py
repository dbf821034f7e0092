"""The study of forgetting, as it was committed: edits until half is forgotten, and how well that was foretold."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kis_core import charts
from kis_core.editing import METHODS
from kis_core.results.result import Result
from kis_core.studies import forgetting
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, figure
from pages.parts.frame.page import View, split
from pages.parts.frame.text import plain

METHOD_NAMES = {method.name: method.label for method in METHODS}
HELP = (
    "`python -m kis_core forgetting` makes these runs anew; tables and all settings are in docs/forgetting.md. A run "
    "ends "
    "when half of the unrelated facts are forgotten, or after as many edits as it was given: a triangle then says “at "
    "least”. Bars: 95 % interval of the geometric mean over seeds (Student’s t on logarithms), with few seeds a wide "
    "one."
)


def study(view: View, result: Result) -> None:
    """The figure of the study at the layer shown, and what it says of the theory."""
    found = forgetting.committed()
    there = found[found["layer"] == view.layer]
    if there.empty:
        layers = ", ".join(map(str, sorted(found["layer"].unique())))
        st.info(f"The study has layers {layers} of the demo family; choose one of them.", icon=":material/layers:")
        return
    left, right = split(1.5, 1, key="split-study")
    with left:
        lives = forgetting.lifetimes(there[there["draw"] == "random"])
        lives = lives.assign(name=[METHOD_NAMES[str(name)] for name in lives["method"]])
        figure(
            view,
            result,
            drawing(charts.lifetimes, lives),
            FigureText(
                title=f"Edits until half is forgotten, layer {view.layer}",
                caption=f"The committed study: the demo family at layer {view.layer}, {_seeds(there)} seeds, edits at "
                f"random; not the run above.",
                help=HELP,
                data=lambda: lives,
                code="from kis_core.studies import forgetting\n\nfound = forgetting.committed()\n"
                f"lives = forgetting.lifetimes(found[(found['layer'] == {view.layer}) & (found['draw'] == 'random')])",
                layer=view.layer,
                brief=True,
            ),
            key="lifetimes",
        )
    with right:
        st.markdown("**Does the theory foretell it?**")
        st.markdown("\n".join(f"- {line}" for line in forgetting.findings(found)))
        st.caption(plain("All tables: docs/forgetting.md"))


def _seeds(found: pd.DataFrame) -> int:
    return int(found["seed"].nunique())
