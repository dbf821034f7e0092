"""The line under a figure: from which model, layer, facts and tokens its numbers come."""

from __future__ import annotations

import streamlit as st

from kis_core.result import LayerReport, Result
from pages.parts.text import plain


def provenance(result: Result, layer: int, figure: str) -> None:
    """Say what a figure shows and where its numbers come from.

    Args:
        result: what is drawn.
        layer: the layer that is drawn.
        figure: what the figure shows, with the paper's equation or figure.
    """
    origin = result.provenance
    report = result.reports[result.at(layer)]
    st.caption(
        f"{figure}  \n"
        f"{plain(result.request.model)} · layer {layer} · {len(result.facts)} facts ({plain(result.facts.name)}) · "
        f"C over {origin['tokens_counted']:,} tokens of the {plain(origin['corpus'])} corpus · {ridge(report)}",
    )


def ridge(report: LayerReport) -> str:
    """Whether a ridge was needed, in words."""
    if report.ridge == 0:
        return f"no ridge (condition number of C {report.condition_number:.1e})"
    return f"ridge {report.ridge:.2e} added: C has rank {report.rank} and could not be inverted as it is"
