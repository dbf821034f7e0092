"""Compare: two models or two layers side by side, on one scale."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from kis_core import charts, superposition
from kis_core.results import pairs
from kis_core.results.result import Result
from kis_core.wording import number
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, asked, figure, say
from pages.parts.figures.inspector import has_pairs, inspector, picked_or_strongest
from pages.parts.figures.pair_list import pair_list
from pages.parts.frame import state
from pages.parts.frame.page import View, frame, panel, request_for, split
from pages.parts.frame.text import plain
from pages.parts.jobs.results import narrowed, ordered, remembered, tell_beyond
from pages.parts.jobs.results import result as result_of

LISTED = 200
CHARTS = ("first-p", "second-p", "difference", "scatter")
NARROW = 12  # characters that fit a narrow column's head
HELP = (
    "Both heatmaps have the same order and the same colours, so that a colour means the same on either side. Click a "
    "cell or a point to open its pair; it is marked everywhere. P is that of eq. 16–18."
)


def main() -> None:
    """The page."""
    view = frame("Compare")
    st.subheader("What changes from one layer, or one model, to another?", anchor=False)
    other = _other(view)
    first, second = _both(view, other)
    tell_beyond(len(first.facts))
    drawn(view, other, first, second)


def _other(view: View) -> View:
    models = state.models()
    columns = st.columns([1.2, 1, 1.6], vertical_alignment="bottom")
    chosen = state.get("other") or view.request.model
    name = columns[0].selectbox("Compare with model", list(models), **state.widget("other", write=chosen))
    layers = models[name].layers
    layer = state.get("otherlayer")
    if layer is None or layer >= layers:
        same = name == view.request.model
        layer = (0 if view.layer == layers - 1 else layers - 1) if same else min(view.layer, layers - 1)
    if layers > 1:
        layer = columns[1].slider("and layer", 0, layers - 1, **state.widget("otherlayer", write=layer))
    return View(request_for(name), layer, view.known_only)


def _both(view: View, other: View) -> tuple[Result, Result]:
    """Both results, of the facts that both models answer if only such are wanted."""
    first, second = result_of(view.request), result_of(other.request)
    if not view.known_only:
        return first, second
    kept = [k for k, (a, b) in enumerate(zip(first.known, second.known, strict=True)) if a and b]
    if not kept:
        st.warning("There is no fact that both models answer. Switch off “Only facts the model answers”.")
        st.stop()
    return narrowed(first, kept, "both models answer"), narrowed(second, kept, "both models answer")


@panel
def drawn(view: View, other: View, first: Result, second: Result) -> None:
    """Two heatmaps, their difference, a scatter, and the pairs that differ most; a click reruns only this."""
    if not has_pairs(first, view.layer):
        return
    p, q = first.p[first.at(view.layer)], second.p[second.at(other.layer)]
    names = _names(view, other)
    pair = picked_or_strongest(first, view.layer)
    figures, pairs_below = st.container(), st.container()
    found = remembered(
        first,
        ("differing", view.layer, second.identity, other.layer),
        lambda: charts.differing(p, q, LISTED),
    )
    with pairs_below:  # first, so that it answers before the browser redraws the figures
        _differing(view, other, first, second, found, names, pair)
    with figures:
        _figures(view, other, first, second, p, q, names, pair)


def _figures(
    view: View,
    other: View,
    first: Result,
    second: Result,
    p: np.ndarray,
    q: np.ndarray,
    names: tuple[str, str],
    pair: tuple[int, int] | None,
) -> None:
    order, labels = ordered(first, view.layer, state.get("order"))
    limit = max(charts.colour_limit(p), charts.colour_limit(q))
    far = charts.colour_limit(p - q)
    both = (first.identity, view.layer, second.identity, other.layer)
    common = {"order": order, "labels": labels, "pair": pair, "first": first, "both": both}
    here = {"about": first, "about_layer": view.layer, "against": other}
    there = {"about": second, "about_layer": other.layer, "against": view}
    both = here | {"also": (second, other.layer)}
    left, right = split(1, 1, "split-heatmaps")
    with left:
        _heatmap(view, p, f"P · {names[0]}", limit, "first-p", "P[i, j]", code="p", **common, **here)
    with right:
        _heatmap(other, q, f"P · {names[1]}", limit, "second-p", "P[i, j]", code="p", **common, **there)
    left, right = split(1, 1, "split-differences")
    with left:
        title = f"Difference · {names[0]} − {names[1]}"
        _heatmap(view, p - q, title, far, "difference", "difference", code=f"{_q(other)}\np - q", **common, **both)
    with right:
        _scatter(view, other, first, second, p, q, names, pair)


def _names(view: View, other: View) -> tuple[str, str]:
    first, second = view.request.model, other.request.model
    if first == second:
        return f"layer {view.layer}", f"layer {other.layer}"
    return f"{first}, layer {view.layer}", f"{second}, layer {other.layer}"


def _heatmap(
    view: View,
    p: np.ndarray,
    title: str,
    limit: float,
    name: str,
    value: str,
    *,
    order: np.ndarray,
    labels: list[str],
    pair: tuple[int, int] | None,
    first: Result,
    both: tuple[Any, ...],
    about: Result,
    about_layer: int,
    against: View,
    code: str,
    also: tuple[Result, int] | None = None,
) -> None:
    key = state.fresh(name)
    large = len(p) > charts.DETAIL
    st.markdown(f"**{plain(title)}**")
    if large:
        what = ("blocks", name, state.get("order"), *both)
        told = remembered(about, what, lambda: charts.blocks(p, order)[0])
        chart = drawing(
            charts.overview, p, order, limit=limit, labels=labels, picked=pair, size=330, told=told, value=value
        )
    else:
        subjects = [fact.subject for fact in first.facts.facts]
        chart = drawing(
            charts.heatmap,
            p,
            order,
            limit=limit,
            labels=labels,
            names=subjects,
            picked=pair,
            size=330,
            value=value,
            hide_diagonal=True,
        )
    figure(
        view,
        about,
        chart,
        FigureText(
            title=title,
            caption=f"Colours end at ±{limit:g}{' on both sides' if value == 'P[i, j]' else ''}. Click a cell.",
            help=HELP,
            data=lambda: pd.DataFrame(p[np.ix_(order, order)], columns=order).assign(edited=order),
            code=code,
            layer=about_layer,
            narrow=_both_known(against),
            also=also,
        ),
        key=key,
        on_select=partial(_cell, key, order, p if large else None),
        selection_mode=charts.PICK,
    )


def _cell(key: str, order: np.ndarray, blocks_of: np.ndarray | None) -> None:
    cells = state.clicked(key, charts.PICK)
    if cells:
        _forget_others(key)
        row, column = int(cells[0]["r"]), int(cells[0]["c"])
        if blocks_of is None:
            state.choose("pair", (int(order[row]), int(order[column])))
        else:
            state.choose("pair", charts.strongest_in_block(blocks_of, order, row, column))


def _forget_others(key: str) -> None:
    state.forget(*(name for name in CHARTS if not key.startswith(f"{name}#")))


def _scatter(
    view: View,
    other: View,
    first: Result,
    second: Result,
    p: np.ndarray,
    q: np.ndarray,
    names: tuple[str, str],
    pair: tuple[int, int] | None,
) -> None:
    pearson, spearman = remembered(
        first,
        ("correlations", view.layer, second.identity, other.layer),
        lambda: (superposition.correlation(p, q), superposition.rank_correlation(p, q)),
    )
    st.markdown(f"**P against P** · Pearson {number(pearson, '.2f')}, Spearman {number(spearman, '.2f')}")
    key = state.fresh("scatter")
    off = pair if pair and pair[0] != pair[1] else None
    figure(
        view,
        first,
        drawing(
            charts.scatter,
            p,
            q,
            names=names,
            subjects=[fact.subject for fact in first.facts.facts],
            picked=off,
            size=330,
            pairs=remembered(
                first,
                ("counted", view.layer, second.identity, other.layer),
                lambda: charts.counted(p, q),
            ),
        ),
        FigureText(
            title=f"P against P, {names[0]} and {names[1]}",
            caption="Grey: how many pairs; dots: the pairs that differ most; ring: the picked pair. Click a dot.",
            help=HELP + " On the dashed line a pair has the same P on both sides.",
            data=lambda: charts.differing(p, q, p.size),
            code=f"{_q(other)}\nstatistics.correlation(p, q), statistics.rank_correlation(p, q)",
            layer=view.layer,
            narrow=_both_known(other),
            also=(second, other.layer),
        ),
        key=key,
        on_select=partial(_point, key),
        selection_mode=charts.PAIR,
    )


def _run(view: View) -> str:
    return f"other = run(Request({asked(view.request)}), Store())"


def _both_known(other: View) -> str:
    """Python lines that keep the facts both models answer."""
    return (
        f"{_run(other)}\n"
        "both = [i for i, known in enumerate(zip(result.known, other.known)) if all(known)]\n"
        "result, other = result.subset(both, 'both'), other.subset(both, 'both')"
    )


def _q(other: View) -> str:
    """Python lines that get `q`, the other P, of the same facts."""
    taken = f"q = other.p[other.at({other.layer})]"
    return taken if other.known_only else f"{_run(other)}\n{taken}"


def _point(key: str) -> None:
    points = state.clicked(key, charts.PAIR)
    if points:
        _forget_others(key)
        state.choose("pair", (int(points[0]["i"]), int(points[0]["j"])))


def _differing(
    view: View,
    other: View,
    first: Result,
    second: Result,
    found: pd.DataFrame,
    names: tuple[str, str],
    pair: tuple[int, int] | None,
) -> None:
    facts = first.facts.facts
    table = found.rename(columns={"x": "here", "y": "there"}).assign(
        difference=found["x"] - found["y"],
        edited=[pairs.told(facts[i]) for i in found["i"]],
        suffers=[pairs.told(facts[j]) for j in found["j"]],
        tags=[", ".join(pairs.tags_of(first, i, j)) for i, j in zip(found["i"], found["j"], strict=True)],
    )
    left, right = split(1.45, 1, "split-list")
    style = {"format": "%+.3f", "width": 92 if len(names[0]) < NARROW else 150}
    with right:
        inspector(view, first, pair)
    with left:
        st.markdown(
            "**The pair that differs most**" if len(table) == 1 else f"**The {len(table)} pairs that differ most**"
        )
        pair_list(
            table,
            pair,
            key="differing",
            height=420,
            here=st.column_config.NumberColumn(names[0], **style),
            there=st.column_config.NumberColumn(names[1], **style),
            difference=st.column_config.NumberColumn("difference", **style),
        )
        say(
            view,
            first,
            FigureText(
                title="Pairs that differ most",
                caption="By falling difference. Click a row to open its pair.",
                help=HELP,
                data=lambda: table,
                code=f"{_q(other)}\ncharts.differing(p, q, {LISTED})",
                layer=view.layer,
                brief=True,
                narrow=_both_known(other),
                also=(second, other.layer),
            ),
            chart=None,
            key="differing-pairs",
        )


main()
