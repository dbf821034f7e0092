"""Story: the whole idea in eight steps on the chosen model, each one figure, one sentence and one thing to try."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from kis_core import charts, lifelong, simulator, superposition
from kis_core.lifelong import EditTrace, frames, summary
from kis_core.results import archive
from kis_core.simulator import Event, Simulator
from kis_core.studies import gallery
from kis_core.superposition.verdicts import heavy_tail, rises_with_size
from kis_core.wording import counted, number
from pages.parts.edit import kept
from pages.parts.edit.event import draw_event
from pages.parts.figures.drawing import Drawing, drawing
from pages.parts.figures.figure import FigureText, figure
from pages.parts.figures.inspector import has_pairs, picked_or_strongest
from pages.parts.figures.verdicts import verdicts
from pages.parts.frame import state
from pages.parts.frame.glossary import explain
from pages.parts.frame.page import frame, panel
from pages.parts.frame.text import plain, sentence
from pages.parts.frame.views import ResultView
from pages.parts.jobs.background import store
from pages.parts.jobs.results import ordered, remembered, shown

PLAIN, WHITENED = "plain angle", "whitened angle"
SIZE = 430  # pixels of the matrix


@dataclass(frozen=True, eq=False)
class StoryView(ResultView):
    """What the story is told of.

    Attributes:
        told: the kept edit that tells most; None where none is kept.
        pair: the two facts it is told with.
    """

    told: Event | None
    pair: tuple[int, int]

    @property
    def names(self) -> tuple[str, str]:
        """The subjects of the two facts. Markdown."""
        facts = self.result.facts.facts
        return plain(facts[self.pair[0]].subject), plain(facts[self.pair[1]].subject)

    @property
    def bench(self) -> Simulator:
        """For what is stored; it loads no model."""
        return simulator.without_model(self.result, store())


@dataclass(frozen=True)
class Chapter:
    """A step of the story.

    Attributes:
        title: in a few words.
        draw: its sentence and its figure.
        question: what to try next, and on which page.
        page: that page.
    """

    title: str
    draw: Callable[[StoryView], None]
    question: str
    page: str


def main() -> None:
    """The page."""
    drawn(shown(frame("Story")))


@panel
def drawn(seen: ResultView) -> None:
    """The step looked at, and the way on and back."""
    if not has_pairs(seen):
        return
    told = simulator.event(kept.events(seen.result), seen.layer)
    pair = picked_or_strongest(seen) or (0, 1)
    if state.picked(len(seen.p)) is None and told is not None and told.told and told.request.layer == seen.layer:
        pair = told.request.fact, told.told[0]
    view = StoryView(seen.request, seen.layer, seen.known_only, seen.result, told, pair)
    at = min(state.get("chapter"), len(CHAPTERS))
    chapter = CHAPTERS[at - 1]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(f"{at} · {chapter.title}", anchor=False, width="stretch")
        _turn("Back", ":material/arrow_back:", "Left", at - 1)
        _turn("Next", ":material/arrow_forward:", "Right", at + 1)
    chapter.draw(view)
    st.page_link(chapter.page, label=chapter.question, icon=":material/touch_app:", query_params=state.link())


def _turn(label: str, icon: str, key: str, to: int) -> None:
    there = 1 <= to <= len(CHAPTERS)
    options: dict[str, Any] = {"icon": icon, "shortcut": key, "key": f"story-{label}", "disabled": not there}
    st.button(label, on_click=state.choose, args=("chapter", to), **options)


def _key(view: StoryView) -> None:
    i, facts = view.pair[0], view.result.facts.facts
    st.html(f"<div style='font-size:1.35rem'>{sentence(facts[i])}</div>")
    token = plain(view.result.key_tokens[i].strip())
    st.markdown(
        f"To answer, the model looks the fact up by a **key**: what goes into the down-projection of layer "
        f"{view.layer} at the subject’s last token, “{token}”. Below: where every other fact’s key stands."
    )
    row = np.full_like(view.p, np.nan)
    row[i] = view.result.activation_cosine[view.result.at(view.layer)][i]
    shares = superposition.angle_shares({PLAIN: row})
    _angles(
        view, "story-key", shares, {}, f"Angles between the key of {view.names[0]} and every other key, as they are."
    )


def _two(view: StoryView) -> None:
    angles = {name: float(superposition.angles(cosine[view.pair])) for name, cosine in _cosines(view).items()}
    degrees = {name: number(angle, ".0f") for name, angle in angles.items()}
    st.markdown(
        f"The keys of **{view.names[0]}** and **{view.names[1]}** stand at {degrees[PLAIN]}° as they are. Measured "
        f"against what all text has in common, at {degrees[WHITENED]}°: that is the angle that counts when one of them "
        f"is edited."
    )
    i = view.pair[0]
    rows = {
        name: np.where(np.arange(len(view.p))[:, None] == i, cosine, np.nan) for name, cosine in _cosines(view).items()
    }
    marks = {f"{name} of the two": angle for name, angle in angles.items()}
    caption = f"Angles between the key of {view.names[0]} and every other key; marked: that of {view.names[1]}."
    _angles(view, "story-two", superposition.angle_shares(rows), marks, caption)


def _whitening(view: StoryView) -> None:
    spreads = superposition.angle_spreads(
        {name: cosine[None] for name, cosine in _cosines(view).items()}, [view.layer]
    ).set_index("space")["mean"]
    st.markdown(
        f"**Whitening** divides by the second moment C of keys over general text, and so takes out what all keys "
        f"share. The mean angle goes from {number(float(spreads[PLAIN]), '.0f')}° to "
        f"{number(float(spreads[WHITENED]), '.0f')}°; what two keys still lack of 90° is superposition."
    )
    shares = superposition.angle_shares(_cosines(view))
    _angles(view, "story-whitening", shares, {}, "Angles between the keys of all pairs of facts (paper, Fig. 6).")


def _cosines(view: StoryView) -> dict[str, np.ndarray]:
    at = view.result.at(view.layer)
    return {PLAIN: view.result.activation_cosine[at], WHITENED: view.result.whitening_cosine[at]}


def _angles(view: StoryView, key: str, shares: pd.DataFrame, marks: dict[str, float], caption: str) -> None:
    filled = shares[shares["share"] > 0]
    span = float(max(0, filled["low"].min() - 5)), float(min(180, max(filled["high"].max() + 5, 95)))
    chart = drawing(charts.angle_histogram, shares, picked=marks, span=span)
    code = (
        "shares = superposition.angle_shares({'whitened angle': result.whitening_cosine[result.at("
        + f"{view.layer})]}})"
    )
    _figure(view, key, chart, ("Angles between keys", caption, explain("whitened angle", "plain angle"), code), shares)


def _matrix(view: StoryView) -> None:
    i, j = view.pair
    st.markdown(
        f"**P[i, j]** says how much of an edit of fact i lands on fact j. An edit of {view.names[0]} lands on "
        f"{view.names[1]} with {number(view.p[i, j], '+.2f')}, the other way round with "
        f"{number(view.p[j, i], '+.2f')}."
    )
    order, labels = ordered(view, "relation")
    limit, large = superposition.colour_limit(view.p), len(view.p) > superposition.DETAIL
    look: dict[str, Any] = {"limit": limit, "labels": labels, "picked": view.pair, "size": SIZE}
    if large:
        chart = drawing(charts.overview, view.p, order, **look)
    else:
        chart = drawing(charts.heatmap, view.p, order, names=view.tagged_subjects, marks=view.signs, **look)
    caption = f"P of all pairs, grouped by relation (eq. 16–18); colours end at ±{limit:g}. Marked: the two facts."
    data = pd.DataFrame(view.p[np.ix_(order, order)], columns=order).assign(edited=order)
    _figure(view, "story-matrix", chart, ("Superposition P", caption, explain("superposition P"), "p"), data)


def _tail(view: StoryView) -> None:
    st.markdown("Do all pairs overlap a little, or a few of them a great deal? A **heavy tail** means the latter.")
    verdicts([remembered(view.result, ("story tail", view.layer), lambda: heavy_tail(view.p))])
    curves = remembered(
        view.result,
        ("density", "with", view.layer),
        lambda: superposition.density_curves(view.p, view.result.mlp_width),
    )
    if curves.empty:
        st.info("All pairs have the same P, so there is no density to draw.", icon=":material/info:")
        return
    top = float(curves["density"].max())
    span = float(curves["at"].min()), float(curves["at"].max())
    axes: dict[str, Any] = {"span": span, "top": 1.06 * top, "floor": top / 1e4, "log": True}
    mark = {f"P[{view.pair[0]}, {view.pair[1]}]": float(view.p[view.pair])}
    chart = drawing(charts.density, curves, picked=mark, tail=superposition.upper_tail(view.p), **axes)
    caption = (
        "How often each P occurs, on a logarithmic axis, beside a normal distribution of the same spread (Fig. 4)."
    )
    code = "curves = superposition.density_curves(p, result.mlp_width)"
    _figure(view, "story-tail", chart, ("Density of P", caption, explain("kurtosis"), code), curves)


def _sizes(view: StoryView) -> None:
    like = archive.fullest_of_each_model(archive.comparable(view.result, archive.computed(store())))
    table = archive.kurtosis_frame(like)
    here = table[(table["layer"] == view.layer) & table["kurtosis"].notna()]
    if here.empty:
        st.info(f"No model has a kurtosis at layer {view.layer}; choose an earlier layer.", icon=":material/info:")
        return
    st.markdown(
        "Does a **larger model** keep facts apart? The paper reads a higher kurtosis of P as weaker superposition: "
        f"fewer pairs carry the overlap. Here: {counted(len(here), 'model')} on the same facts."
    )
    models = archive.at_layer(like, view.layer, store(), kept=view.result.provenance.get("facts_kept"), clean=False)
    verdicts([rises_with_size([p for _, p in models], [one.parameters for one, _ in models])])
    chart = drawing(charts.kurtosis_by_size, here, current=(view.request.model, view.layer))
    caption = f"Kurtosis of P at layer {view.layer} by number of parameters (Fig. 5); bars: 95 % over facts."
    code = (
        "from kis_core.results import archive\n\nlike = archive.fullest_of_each_model(archive.comparable(result, "
        "archive.computed(Store())))\nframe = archive.kurtosis_frame(like)\n"
        f"frame = frame[frame['layer'] == {view.layer}]"
    )
    _figure(view, "story-sizes", chart, ("Kurtosis by size", caption, explain("kurtosis"), code), here, all_layers=True)


def _edit(view: StoryView) -> None:
    if view.told is None:
        st.info(
            "No edit of this model on these facts is stored yet; the page **Edit a fact** makes one.",
            icon=":material/edit:",
        )
        return
    draw_event(view, view.told)


def _run(view: StoryView) -> None:
    trace, name = _longest(view)
    if trace is None:
        st.info(
            "No run of edits of this model on these facts is stored yet; the page **Lifelong** makes one.",
            icon=":material/timeline:",
        )
        return
    half = summary.half_life(trace)
    lost = f"after {half.edits:.0f} edits half" if half.reached else f"after {trace.edits} edits less than half"
    st.markdown(
        f"One edit after another, and what lands adds up: {lost} of the facts nobody edited are forgotten. How many "
        f"edits a model bears can be forecast before they are made: its **edit budget**."
    )
    held = frames.holding({name: trace})
    chart = drawing(charts.retention, held, step=trace.edits, most=trace.edits)
    caption = (
        f"{plain(name)}: share of unrelated facts still answered (Δo, eq. 11) and of edits still in force (Δe, eq. 15)."
    )
    code = (
        "from kis_core import lifelong, simulator\nfrom kis_core.studies import gallery\n\n"
        "bench = simulator.without_model(result, Store())\n"
        "trace = lifelong.known(bench, gallery.default_run(bench))\n"
        "frame = lifelong.frames.holding({'run': trace})"
    )
    _figure(view, "story-run", chart, ("Edit after edit", caption, explain("half-life", "edit budget"), code), held)


def _longest(view: StoryView) -> tuple[EditTrace | None, str]:
    """The run that the page Lifelong shows first, in the first layer that can be edited, as far as it is stored."""
    if not view.result.editable_layers:
        return None, ""
    request = gallery.default_run(view.bench)
    return remembered(view.result, ("story run",), lambda: lifelong.known(view.bench, request)), request.label


def _figure(
    view: StoryView,
    key: str,
    chart: Drawing,
    words: tuple[str, str, str, str],
    data: pd.DataFrame,
    *,
    all_layers: bool = False,
) -> None:
    title, caption, help_, code = words
    text = FigureText(title=title, caption=caption, help=help_, data=lambda: data, code=code, all_layers=all_layers)
    figure(view, chart, text, key=key)


# the story, in order
CHAPTERS = (
    Chapter("A fact has a key", _key, "Look at any pair of facts", "pages/superposition.py"),
    Chapter("Two facts, two angles", _two, "See the angles of every pair", "pages/angles.py"),
    Chapter("Whitening", _whitening, "See how much text C takes", "pages/convergence.py"),
    Chapter("P: who suffers from whose edit", _matrix, "Click through the whole matrix", "pages/superposition.py"),
    Chapter("The heavy tail", _tail, "List the pairs of the tail", "pages/distributions.py"),
    Chapter("Larger models", _sizes, "Follow it through the layers", "pages/scaling.py"),
    Chapter("One edit, and who follows", _edit, "Edit a fact yourself", "pages/edit.py"),
    Chapter("A hundred edits, and the budget", _run, "Forecast how many edits a model takes", "pages/lifelong.py"),
)

main()
