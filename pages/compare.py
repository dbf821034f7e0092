"""Compare: two models or two layers side by side, on one scale."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from kis_core import charts, superposition
from kis_core.results.result import Result
from kis_core.wording import number
from pages.parts.figures.drawing import Drawing, drawing
from pages.parts.figures.figure import FigureText, Pick, caption, figure
from pages.parts.figures.inspector import has_pairs, inspector, picked_or_strongest
from pages.parts.figures.pair_list import pair_list, with_names
from pages.parts.frame import state
from pages.parts.frame.glossary import explain
from pages.parts.frame.page import frame, panel, request_for, split
from pages.parts.frame.text import named, plain
from pages.parts.frame.views import ResultView, View, python_request
from pages.parts.jobs.results import narrowed, of_result, ordered, remembered, tell_beyond
from pages.parts.jobs.results import result as result_of

LISTED = 200
CHARTS = ("first-p", "second-p", "difference", "scatter")
NARROW = 12  # characters that fit a narrow column's head
SIZE = 330  # pixels
HELP = (
    "Both heatmaps have the same order and the same colours, so that a colour means the same on either side. Click a "
    "cell or a point to open its pair; it is marked everywhere.\n\n" + explain("superposition P")
)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two results on the same facts, each at a layer.

    Attributes:
        first, second: the one chosen on the left, and the one it is compared with.
        pair: the picked pair.
    """

    first: ResultView
    second: ResultView
    pair: tuple[int, int] | None

    @property
    def names(self) -> tuple[str, str]:
        """What the two are called: by their layers alone if they are of one model."""
        first, second = self.first.request.model, self.second.request.model
        if first == second:
            return f"layer {self.first.layer}", f"layer {self.second.layer}"
        return f"{first}, layer {self.first.layer}", f"{second}, layer {self.second.layer}"

    def key(self, what: str) -> tuple[Any, ...]:
        """What something that is worked out of both is kept under, for the first result."""
        return what, self.first.layer, self.second.result.identity, self.second.layer

    @property
    def q_lines(self) -> str:
        """Python lines that get `q`, the other P, of the same facts."""
        lines = f"q = other.p[other.at({self.second.layer})]"
        return lines if self.second.known_only else f"{_run(self.second)}\n{lines}"


def main() -> None:
    """The page."""
    view = frame("Compare")
    st.subheader("What changes from one layer, or one model, to another?", anchor=False)
    columns = st.columns([1.2, 1, 1.6], vertical_alignment="bottom")
    with columns[0]:
        request = request_for(_model(view))
    first, second = result_of(view.request), result_of(request)
    with columns[1]:
        other = View(request, _layer(view, request.model, second), view.known_only)
    first_view, second_view = _both(view, first, other, second)
    tell_beyond(len(first_view.result.facts))
    drawn(first_view, second_view)


def _model(view: View) -> str:
    chosen = state.get("other") or view.request.model
    models = list(state.models())
    label, options = partial(named, among=models), state.widget("other", write=chosen)
    name: str = st.selectbox("Compare with model", models, format_func=label, **options)
    return name


def _layer(view: View, model: str, result: Result) -> int:
    """The layer to compare with: where none is chosen, the last one computed, or the first beside the last."""
    layers, layer = state.models()[model].layers, state.get("otherlayer")
    if layer is None or layer >= layers:
        first, last = result.layers[0], result.layers[-1]
        here = max((one for one in result.layers if one <= view.layer), default=first)
        layer = (first if view.layer == last else last) if model == view.request.model else here
    if layers > 1:
        layer = st.slider("and layer", 0, layers - 1, **state.widget("otherlayer", write=layer))
    return int(layer)


def _both(view: View, first: Result, other: View, second: Result) -> tuple[ResultView, ResultView]:
    """Views of both results, of the facts that both models answer if only such are wanted."""
    if view.known_only:
        kept = [fact for fact, known in enumerate(zip(first.known, second.known, strict=True)) if all(known)]
        if not kept:
            st.warning("There is no fact that both models answer. Switch off “Only facts the model answers”.")
            st.stop()
        first, second = (narrowed(result, kept, "both models answer") for result in (first, second))
    return of_result(view, first), of_result(other, second, "otherlayer")


@panel
def drawn(first: ResultView, second: ResultView) -> None:
    """Two heatmaps, their difference, a scatter, and the pairs that differ most; a click reruns only this."""
    if not has_pairs(first):
        return
    both = Comparison(first, second, picked_or_strongest(first))
    figures, pairs_below = st.container(), st.container()
    with pairs_below:  # first, so that it answers before the browser redraws the figures
        _differing(both)
    with figures:
        _figures(both)


@dataclass(frozen=True, eq=False)
class Side:
    """One of the heatmaps.

    Attributes:
        name: in `CHARTS`.
        title: of the figure.
        values: drawn, (m, m).
        limit: where the colours end.
        code: Python lines that give the values.
        view: where they come from.
        against: the other side.
        also: the other side too, if the values come from both.
    """

    name: str
    title: str
    values: np.ndarray
    limit: float
    code: str
    view: ResultView
    against: View
    also: ResultView | None = None

    @property
    def quantity(self) -> str:
        """What the values are."""
        return "difference" if self.also else "P[i, j]"


def _figures(both: Comparison) -> None:
    first, second = both.first, both.second
    p, q, names = first.p, second.p, both.names
    limit = max(superposition.colour_limit(p), superposition.colour_limit(q))
    difference, title = p - q, f"Difference · {names[0]} − {names[1]}"
    far, code = superposition.colour_limit(difference), f"{both.q_lines}\np - q"
    left, right = split(1, 1, "split-heatmaps")
    with left:
        _heatmap(both, Side("first-p", f"P · {names[0]}", p, limit, "p", first, second))
    with right:
        _heatmap(both, Side("second-p", f"P · {names[1]}", q, limit, "p", second, first))
    left, right = split(1, 1, "split-differences")
    with left:
        _heatmap(both, Side("difference", title, difference, far, code, first, second, also=second))
    with right:
        _scatter(both)


def _heatmap(both: Comparison, side: Side) -> None:
    order, labels = ordered(both.first, state.get("order"))
    blocks = len(side.values) > superposition.DETAIL
    legend = "" if blocks or side.also else f" {side.view.legend}".rstrip()
    st.markdown(f"**{plain(side.title)}**")
    figure(
        side.view,
        _blocks(both, side, order, labels) if blocks else _cells(both, side, order, labels),
        FigureText(
            title=side.title,
            caption=f"Colours end at ±{side.limit:g}{'' if side.also else ' on both sides'}. Click a cell.{legend}",
            help=HELP,
            data=lambda: pd.DataFrame(side.values[np.ix_(order, order)], columns=order).assign(edited=order),
            code=side.code,
            narrow=_both_known(side.against),
            also=side.also,
        ),
        key=state.fresh(side.name),
        pick=Pick(charts.PICK, partial(_pick_cell, side.name, order, side.values if blocks else None)),
    )


def _cells(both: Comparison, side: Side, order: np.ndarray, labels: list[str]) -> Drawing:
    look: dict[str, Any] = {
        "limit": side.limit,
        "picked": both.pair,
        "size": SIZE,
        "value": side.quantity,
        "hide_diagonal": True,
    }
    names, marks = (both.first.subjects, ()) if side.also else (side.view.tagged_subjects, side.view.signs)
    return drawing(charts.heatmap, side.values, order, labels=labels, names=names, marks=marks, **look)


def _blocks(both: Comparison, side: Side, order: np.ndarray, labels: list[str]) -> Drawing:
    key = ("blocks", side.name, state.get("order"), both.first.result.identity, both.first.layer, *both.key(""))
    blocks = remembered(side.view.result, key, lambda: superposition.blocks(side.values, order)[0])
    look: dict[str, Any] = {"limit": side.limit, "picked": both.pair, "size": SIZE, "value": side.quantity}
    return drawing(charts.overview, side.values, order, labels=labels, largest=blocks, **look)


def _pick_cell(name: str, order: np.ndarray, blocks_of: np.ndarray | None, cell: dict[str, Any]) -> None:
    _forget_others(name)
    row, column = int(cell["r"]), int(cell["c"])
    pair = (int(order[row]), int(order[column]))
    state.choose("pair", pair if blocks_of is None else superposition.strongest_in_block(blocks_of, order, row, column))


def _pick_point(point: dict[str, Any]) -> None:
    _forget_others("scatter")
    state.choose("pair", (int(point["i"]), int(point["j"])))


def _forget_others(name: str) -> None:
    state.forget(*(other for other in CHARTS if other != name))


def _scatter(both: Comparison) -> None:
    p, q, result = both.first.p, both.second.p, both.first.result
    pearson, spearman = remembered(
        result,
        both.key("correlations"),
        lambda: (superposition.correlation(p, q), superposition.rank_correlation(p, q)),
    )
    st.markdown(f"**P against P** · Pearson {number(pearson, '.2f')}, Spearman {number(spearman, '.2f')}")
    look: dict[str, Any] = {"names": both.names, "subjects": both.first.subjects, "size": SIZE}
    look["picked"] = both.pair if both.pair and both.pair[0] != both.pair[1] else None
    look["pairs"] = remembered(result, both.key("counted"), lambda: superposition.count_pairs(p, q))
    figure(
        both.first,
        drawing(charts.scatter, p, q, **look),
        FigureText(
            title=f"P against P, {both.names[0]} and {both.names[1]}",
            caption="Grey: how many pairs; dots: the pairs that differ most; ring: the picked pair. Click a dot.",
            help=f"{HELP}\n\nOn the dashed line a pair has the same P on both sides.",
            data=lambda: superposition.differing(p, q, p.size),
            code=f"{both.q_lines}\nsuperposition.correlation(p, q), superposition.rank_correlation(p, q)",
            narrow=_both_known(both.second),
            also=both.second,
        ),
        key=state.fresh("scatter"),
        pick=Pick(charts.PAIR, _pick_point),
    )


def _run(view: View) -> str:
    return f"other = run({python_request(view.request)}, Store())"


def _both_known(other: View) -> str:
    """Python lines that keep the facts both models answer."""
    return (
        f"{_run(other)}\n"
        "both = [i for i, known in enumerate(zip(result.known, other.known)) if all(known)]\n"
        "result, other = result.subset(both, 'both'), other.subset(both, 'both')"
    )


def _differing(both: Comparison) -> None:
    result, names = both.first.result, both.names
    points = remembered(
        result, both.key("differing"), lambda: superposition.differing(both.first.p, both.second.p, LISTED)
    )
    points = points.rename(columns={"x": "here", "y": "there"})
    table = with_names(result, both.first.layer, points.assign(difference=points["here"] - points["there"]))
    left, right = split(1.45, 1, "split-list")
    column = partial(st.column_config.NumberColumn, format="%+.3f", width=92 if len(names[0]) < NARROW else 150)
    with right:
        inspector(both.first, both.pair)
    with left:
        count = len(table)
        st.markdown("**The pair that differs most**" if count == 1 else f"**The {count} pairs that differ most**")
        columns = {"here": column(names[0]), "there": column(names[1]), "difference": column("difference")}
        pair_list(table, both.pair, key="differing", height=420, **columns)
        text = FigureText(
            title="Pairs that differ most",
            caption="By falling difference. Click a row to open its pair.",
            help=HELP,
            data=lambda: table,
            code=f"{both.q_lines}\nsuperposition.differing(p, q, {LISTED})",
            brief=True,
            narrow=_both_known(both.second),
            also=both.second,
        )
        caption(both.first, text, key="differing-pairs")


main()
