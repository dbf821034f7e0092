"""Convergence: are m facts enough, and are these many tokens behind C enough (App. C)?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import streamlit as st

from kis_core import charts, superposition
from kis_core.errors import KisError
from kis_core.request import Request
from kis_core.results import convergence
from kis_core.results.result import Result
from kis_core.wording import counted, number
from pages.parts.figures.drawing import Drawing, drawing
from pages.parts.figures.figure import FigureText, figure
from pages.parts.frame.glossary import explain
from pages.parts.frame.page import frame, split
from pages.parts.frame.views import ResultView
from pages.parts.jobs.missing import compute
from pages.parts.jobs.results import remembered, shown, stored, subset_like

FACTS_HELP = (
    "**Paper, App. C.** Excess kurtosis of P over random subsets of the facts, by their number. Line: median; band: "
    "95 % of 50 random subsets. The paper finds that 128 facts are enough. Subsets of nearly all facts overlap, so "
    "the band must close at the right end whatever the truth: look at where the line has levelled off before that.\n\n"
    + explain("kurtosis")
)
TOKENS_HELP = (
    "C is estimated from text. With fewer tokens than dₘ it is singular and gets a ridge; with a few times dₘ it is "
    "noisy, which adds noise to every entry of P and lowers its kurtosis. Bars: 95 % interval over facts. Not in the "
    "paper, which takes 100,000 articles.\n\n" + explain("second moment C", "ridge")
)


def main() -> None:
    """The page."""
    view = frame("Convergence")
    st.subheader("Enough facts? Enough text?", anchor=False)
    seen = shown(view)
    _facts(seen)
    counts = convergence.token_counts(seen.result.provenance["tokens_counted"])[:-1]
    requests = [*(replace(view.request, tokens=count) for count in counts), view.request]
    st.markdown("**More and more text behind C**")
    place = st.container()
    _tokens(seen, requests)
    with place:
        compute(requests, "amounts of text")


def _overlaid(curves: pd.DataFrame, legend: str) -> Drawing:
    return drawing(charts.overlaid, curves, title="P[i, j] off the diagonal", legend_title=legend)


def _by_tokens(frame: pd.DataFrame, y_title: str) -> Drawing:
    return drawing(charts.convergence, frame, x_title="tokens behind C", y_title=y_title, log=True)


def _facts(view: ResultView) -> None:
    p, result = view.p, view.result
    if len(p) < convergence.LEAST_FACTS:
        st.info(
            f"{counted(len(p), 'fact is', 'facts are')} too few to take subsets of; {convergence.LEAST_FACTS} or more "
            f"show something.",
            icon=":material/info:",
        )
        return
    draws = remembered(result, ("convergence", view.layer), lambda: superposition.convergence(p))
    bands = superposition.bands(draws)
    curves = remembered(result, ("subsets", view.layer), lambda: convergence.subset_densities(p))
    x_title, y_title = "facts in a random subset", "excess kurtosis of P"
    st.markdown("**More and more facts**")
    left, right = split(1, 1, "split-facts")
    with left:
        text = FigureText(
            title="Kurtosis by number of facts",
            caption=convergence.enough_facts(bands, len(p)),
            help=FACTS_HELP,
            data=lambda: draws,
            code="draws = superposition.convergence(p)\nbands = superposition.bands(draws)",
        )
        chart = drawing(charts.convergence, bands, x_title=x_title, y_title=y_title)
        figure(view, chart, text, key="convergence-facts")
    with right:
        text = FigureText(
            title="Density by number of facts",
            caption="The density of P for subsets of one random order of the facts, each inside the next (App. C).",
            help=FACTS_HELP,
            data=lambda: curves,
            code="from kis_core.results import convergence\n\ncurves = convergence.subset_densities(p)",
        )
        figure(view, _overlaid(curves, "facts"), text, key="convergence-densities")


def _computed(view: ResultView, requests: Sequence[Request]) -> dict[int, Result]:
    """The results that are there, by the tokens they counted."""
    computed: dict[int, Result] = {}
    for request in requests:
        try:
            if other := stored(request):
                computed[other.provenance["tokens_counted"]] = subset_like(view.result, other)
        except KisError:
            continue  # `compute` says what is wrong
    return computed


def _tokens(view: ResultView, requests: Sequence[Request]) -> None:
    results = _computed(view, requests)
    if len(results) < 2:
        st.caption("As soon as two amounts of text are computed, they are drawn here.")
        _settling(view)
        return
    kurtosis, likeness = convergence.by_tokens(results, view.layer)
    densities = convergence.token_densities(results, view.layer)
    kept = ".subset(result.provenance['facts_kept'], 'known')" if view.known_only else ""
    code = (
        "from dataclasses import replace\n"
        "from kis_core.results import convergence\n\n"
        f"counts = {[request.tokens for request in requests]!r}\n"
        f"results = [run(replace(result.request, tokens=n), Store()){kept} for n in counts]\n"
        "results = {one.provenance['tokens_counted']: one for one in results}\n"
        f"kurtosis, likeness = convergence.by_tokens(results, {view.layer})"
    )
    ridges = [f"{count:,}" for count, result in results.items() if result.reports[result.at(view.layer)].ridge]
    ridged = f" A ridge was needed at {', '.join(ridges)} tokens." if ridges else ""
    left, right = split(1, 1, "split-tokens")
    with left:
        text = FigureText(
            title="Kurtosis by tokens",
            caption=f"Kurtosis of P as C is taken over more text; dₘ = {view.result.mlp_width:,}.{ridged}",
            help=TOKENS_HELP,
            data=lambda: kurtosis,
            code=code,
        )
        figure(view, _by_tokens(kurtosis, "excess kurtosis of P"), text, key="tokens-kurtosis")
    with right:
        text = FigureText(
            title="Density by tokens",
            caption="The density of P for each amount of text. Too little text spreads it: noise in every entry.",
            help=TOKENS_HELP,
            data=lambda: densities,
            code=f"{code}\ndensities = convergence.token_densities(results, {view.layer})",
        )
        figure(view, _overlaid(densities, "tokens"), text, key="tokens-densities")
    left, right = split(1, 1, "split-likeness")
    with left:
        most = f"{max(results):,}"
        text = FigureText(
            title="Likeness by tokens",
            caption=f"Pearson correlation of the off-diagonal entries with those of P over {most} tokens.",
            help=TOKENS_HELP,
            data=lambda: likeness,
            code=code,
        )
        figure(view, _by_tokens(likeness, f"correlation with P at {most}"), text, key="tokens-likeness")
    with right:
        _settling(view)


def _settling(view: ResultView) -> None:
    """How far P still moved while C grew: looked at on the way, so there for every model computed here."""
    moved = convergence.settling(view.result.provenance.get("looks") or [])
    if len(moved) < 2:
        return
    last = moved.iloc[-1]
    text = FigureText(
        title="P while C grew",
        caption="Root mean square change of P’s off-diagonal entries since the look before, as a share of their "
        f"spread; at the end {number(last['middle'], '.1%')}. Bars: from the layer that moved least to the one that "
        f"moved most, of {last['note']}.",
        help=TOKENS_HELP,
        data=lambda: moved,
        code="from kis_core.results import convergence\n\nmoved = convergence.settling(result.provenance['looks'])",
        all_layers=True,
    )
    figure(view, _by_tokens(moved, "how far P moved, look by look"), text, key="tokens-settling")


main()
