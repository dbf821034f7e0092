"""Convergence: are m facts enough, and are these many tokens behind C enough (App. C)?"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import streamlit as st

from kis_core import charts, superposition
from kis_core.errors import KisError
from kis_core.results import convergence
from kis_core.results.result import Result
from kis_core.wording import counted, number
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, figure
from pages.parts.frame.page import View, frame, split
from pages.parts.jobs.results import compute, remembered, shown, stored, subset_like

HELP_FACTS = (
    "**Paper, App. C.** Excess kurtosis of P over random subsets of the facts, by their number. Line: median; band: "
    "95 % of 50 random subsets. The paper finds that 128 facts are enough. Subsets of nearly all facts overlap, so "
    "the band must close at the right end whatever the truth: look at where the line has levelled off before that."
)
HELP_TOKENS = (
    "C is estimated from text. With fewer tokens than dₘ it is singular and gets a ridge; with a few times dₘ it is "
    "noisy, which adds noise to every entry of P and lowers its kurtosis. Bars: 95 % interval over facts. Not in the "
    "paper, which takes 100,000 articles."
)


def main() -> None:
    """The page."""
    view = frame("Convergence")
    st.subheader("Enough facts? Enough text?", anchor=False)
    result = shown(view)
    _facts(view, result)
    counts = convergence.token_counts(result.provenance["tokens_counted"])[:-1]
    requests = [*(replace(view.request, tokens=count) for count in counts), view.request]
    st.markdown("**More and more text behind C**")
    place = st.container()
    _tokens(view, result, requests)
    with place:
        compute(requests, "amounts of text")


def _facts(view: View, result: Result) -> None:
    p = result.p[result.at(view.layer)]
    if len(p) < convergence.LEAST_FACTS:
        st.info(
            f"{counted(len(p), 'fact is', 'facts are')} too few to take subsets of; {convergence.LEAST_FACTS} or more "
            f"show something.",
            icon=":material/info:",
        )
        return
    drawn = remembered(result, ("convergence", view.layer), lambda: superposition.convergence(p))
    bands = superposition.bands(drawn)
    curves = remembered(result, ("subsets", view.layer), lambda: convergence.subset_densities(p))
    st.markdown("**More and more facts**")
    left, right = split(1, 1, "split-facts")
    with left:
        figure(
            view,
            result,
            drawing(charts.convergence, bands, x_title="facts in a random subset", y_title="excess kurtosis of P"),
            FigureText(
                title="Kurtosis by number of facts",
                caption=_verdict(bands, len(p)),
                help=HELP_FACTS,
                data=lambda: drawn,
                code="drawn = statistics.convergence(p)\nbands = statistics.bands(drawn)",
                layer=view.layer,
            ),
            key="convergence-facts",
        )
    with right:
        figure(
            view,
            result,
            drawing(charts.overlaid, curves, title="P[i, j] off the diagonal", legend_title="facts"),
            FigureText(
                title="Density by number of facts",
                caption="The density of P for subsets of one random order of the facts, each inside the next (App. C).",
                help=HELP_FACTS,
                data=lambda: curves,
                code="from kis_core import convergence\n\ncurves = convergence.subset_densities(p)",
                layer=view.layer,
            ),
            key="convergence-densities",
        )


def _verdict(bands: pd.DataFrame, m: int) -> str:
    """What the figure says about the paper's claim, in words."""
    final = bands["middle"].iloc[-1]
    half = bands[bands["x"] <= m / 2]
    if half.empty or pd.isna(final):
        return "Line: median of 50 random subsets; band: 95 % of them (App. C)."
    row = half.iloc[-1]
    return (
        f"With {row['x']:.0f} of the {m} facts, 95 % of 50 random subsets have a kurtosis from "
        f"{number(row['low'], '.1f')} to {number(row['high'], '.1f')}; all facts "
        f"together {number(final, '.1f')} (App. C)."
    )


def _tokens(view: View, result: Result, requests: list) -> None:  # type: ignore[type-arg]
    found: dict[int, Result] = {}
    for request in requests:
        try:
            if one := stored(request):
                found[one.provenance["tokens_counted"]] = subset_like(result, one)
        except KisError:
            continue  # `compute` tells what is wrong
    if len(found) < 2:
        st.caption("As soon as two amounts of text are computed, they are drawn here.")
        _settling(view, result)
        return
    kurtosis, likeness = convergence.by_tokens(found, view.layer)
    most = max(found)
    left, right = split(1, 1, "split-tokens")
    kept = ".subset(result.provenance['facts_kept'], 'known')" if view.known_only else ""
    code = (
        "from dataclasses import replace\n"
        "from kis_core import convergence\n\n"
        f"counts = {[request.tokens for request in requests]!r}\n"
        f"found = [run(replace(result.request, tokens=n), Store()){kept} for n in counts]\n"
        "found = {one.provenance['tokens_counted']: one for one in found}\n"
        f"kurtosis, likeness = convergence.by_tokens(found, {view.layer})"
    )
    ridges = [f"{count:,}" for count, one in found.items() if one.reports[one.at(view.layer)].ridge]
    ridged = f" A ridge was needed at {', '.join(ridges)} tokens." if ridges else ""
    densities = convergence.token_densities(found, view.layer)
    with left:
        figure(
            view,
            result,
            drawing(charts.convergence, kurtosis, x_title="tokens behind C", y_title="excess kurtosis of P", log=True),
            FigureText(
                title="Kurtosis by tokens",
                caption=f"Kurtosis of P as C is taken over more text; dₘ = {result.mlp_width:,}.{ridged}",
                help=HELP_TOKENS,
                data=lambda: kurtosis,
                code=code,
                layer=view.layer,
            ),
            key="tokens-kurtosis",
        )
    with right:
        figure(
            view,
            result,
            drawing(charts.overlaid, densities, title="P[i, j] off the diagonal", legend_title="tokens"),
            FigureText(
                title="Density by tokens",
                caption="The density of P for each amount of text. Too little text spreads it: noise in every entry.",
                help=HELP_TOKENS,
                data=lambda: densities,
                code=f"{code}\ndensities = convergence.token_densities(found, {view.layer})",
                layer=view.layer,
            ),
            key="tokens-densities",
        )
    left, right = split(1, 1, "split-likeness")
    with left:
        figure(
            view,
            result,
            drawing(
                charts.convergence,
                likeness,
                x_title="tokens behind C",
                y_title=f"correlation with P at {most:,}",
                log=True,
            ),
            FigureText(
                title="Likeness by tokens",
                caption=f"Pearson correlation of the off-diagonal entries with those of P over {most:,} tokens.",
                help=HELP_TOKENS,
                data=lambda: likeness,
                code=code,
                layer=view.layer,
            ),
            key="tokens-likeness",
        )
    with right:
        _settling(view, result)


def _settling(view: View, result: Result) -> None:
    """How far P still moved while C grew: looked at on the way, so there for every model computed here."""
    moved = convergence.settling(result.provenance.get("looks") or [])
    if len(moved) < 2:
        return
    last = moved.iloc[-1]
    figure(
        view,
        result,
        drawing(
            charts.convergence, moved, x_title="tokens behind C", y_title="how far P moved, look by look", log=True
        ),
        FigureText(
            title="P while C grew",
            caption=f"Root mean square change of P’s off-diagonal entries since the look before, as a share of their "
            f"spread; at the end {number(last['middle'], '.1%')}. Bars: from the stillest to the liveliest of "
            f"{last['note']}.",
            help=HELP_TOKENS,
            data=lambda: moved,
            code="from kis_core import convergence\n\nmoved = convergence.settling(result.provenance['looks'])",
            layer=None,
        ),
        key="tokens-settling",
    )


main()
