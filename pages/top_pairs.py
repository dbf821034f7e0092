"""Top pairs: the strongest superposed pairs as a table, and those that stay (App. F, Tables 1-4)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from kis_core.results import archive, pairs, published
from kis_core.results.tags import TAGS
from kis_core.wording import counted
from pages.parts.figures.figure import FigureText, caption
from pages.parts.figures.inspector import has_pairs, inspector, picked_or_strongest
from pages.parts.figures.pair_list import pair_list, with_names
from pages.parts.frame import state
from pages.parts.frame.glossary import explain
from pages.parts.frame.page import frame, panel, split
from pages.parts.frame.text import plain
from pages.parts.frame.views import ResultView
from pages.parts.frame.widgets import segments
from pages.parts.jobs.background import store
from pages.parts.jobs.results import remembered, shown

LISTS = {"strongest": "Strongest", "stay": "Pairs that stay", "paper": "In the paper"}
OVER = {"layers": "every layer", "models": "every computed model"}
HELP = (
    "**Paper, App. F, Tables 1–4.** Ordered pairs by falling |P[i, j]| (eq. 16–18). Click a row to open the pair; a "
    "click on a column’s head sorts the table.\n\n" + explain("superposition P", "tag")
)
Pair = tuple[int, int] | None


def main() -> None:
    """The page."""
    view = frame("Top pairs")
    st.subheader("Which facts hang together most?", anchor=False)
    drawn(shown(view))


@panel
def drawn(view: ResultView) -> None:
    """The table and the inspector; a click reruns only this."""
    if not has_pairs(view):
        return
    published_pairs = published.pairs(view.result, view.layer)
    options = [name for name in LISTS if name != "paper" or published_pairs is not None]
    if state.get("list") not in options:
        state.settle("list", options[0])
    pair = picked_or_strongest(view)
    left, right = split(1.9, 1)
    with right:  # first, so that it answers before the browser redraws the table
        inspector(view, pair)
    with left:
        chosen = segments("list", "List", {name: LISTS[name] for name in options}, bare=True)
        if chosen == "strongest":
            _strongest(view, pair)
        elif chosen == "stay":
            _stay(view, pair)
        elif published_pairs is not None:
            _paper(view, published_pairs, pair)


def _strongest(view: ResultView, pair: Pair) -> None:
    relations = sorted({fact.relation for fact in view.result.facts.facts if fact.relation})
    first = st.columns([1, 1, 1.3], vertical_alignment="bottom")
    count = first[0].number_input("Pairs", 1, state.MOST_PAIRS, step=50, **state.widget("k"))
    text = first[1].text_input(
        "Find", placeholder="a subject or word", max_chars=state.MOST_WORDS, **state.widget("find")
    )
    merge = first[2].toggle(
        "(i, j) and (j, i) as one",
        help="Listed once, in the direction of the larger |P|.",
        **state.toggle("directions", on="merged"),
    )
    second = st.columns(2)
    kept = [name for name in state.get("relations") if name in relations]
    wanted = second[0].multiselect(
        "Relations",
        relations,
        placeholder="all relations",
        format_func=lambda name: name.replace("_", " "),
        disabled=not relations,
        **state.widget("relations", tuple, write=kept),
    )
    tags = second[1].multiselect(
        "Tags",
        TAGS,
        placeholder="all tags",
        help=explain("tag", "same subject", "same last token", "first token", "weak key"),
        **state.widget("tags", tuple, write=list(state.get("tags"))),
    )
    filters: dict[str, Any] = {"merge": merge, "relations": list(wanted), "tags": list(tags), "text": text or ""}
    table = pairs.table(view.result, view.layer, count=count, **filters)
    if table.empty:
        st.info("No pair fits. Take a filter away.", icon=":material/filter_alt_off:")
        return
    arguments = "".join(f", {name}={value!r}" for name, value in filters.items() if value)
    pair_list(table, pair, key="top", height=560)
    about = FigureText(
        title="Top pairs",
        caption=f"The {len(table):,} strongest pairs that fit, of {len(view.result.ranking(view.layer)):,} (App. F).",
        help=HELP,
        data=lambda: table,
        code=f"table = pairs.table(result, {view.layer}, count={count}{arguments})",
    )
    caption(view, about, key="top-pairs")


def _stay(view: ResultView, pair: Pair) -> None:
    columns = st.columns([1.2, 1], vertical_alignment="bottom")
    with columns[0]:
        over = segments("stay", "In the strongest of", OVER)
    count = columns[1].number_input("Pairs looked at in each", 1, state.MOST_PAIRS, step=50, **state.widget("k"))
    models = _models(view) if over == "models" else {}
    names = [name for name, _ in models.values()] or [f"layer {layer}" for layer in view.result.layers]
    if len(models if over == "models" else names) < 2:
        alone = (
            "Only one model is computed on these facts. Results of others join in as soon as they are computed: see "
            "**Layers and scaling**."
        )
        st.info(alone if over == "models" else "This result has a single layer.", icon=":material/info:")
        return
    p = np.stack([p for _, p in models.values()]) if models else view.result.p
    key = ("stay", over, count, view.layer, tuple(models))
    stay = remembered(view.result, key, lambda: pairs.that_stay(p, names, count))
    top = stay.head(state.MOST_PAIRS)
    table = top[["i", "j", "times", "mean"]].assign(trend=list(top[names].to_numpy()))
    config = {
        "times": st.column_config.NumberColumn(
            f"in of {len(names)}", width=70, help=f"in how many of {', '.join(names)}"
        ),
        "mean": st.column_config.NumberColumn("mean P", format="%+.3f", width=76),
        "trend": st.column_config.LineChartColumn("P[i, j]", width=110, help=", ".join(names)),
    }
    pair_list(with_names(view.result, view.layer, table), pair, key="stay", height=520, **config)
    everywhere = int((stay["times"] == len(names)).sum())
    each = "layer" if over == "layers" else f"model at layer {view.layer}"
    about = FigureText(
        title=f"Pairs that stay, by {over[:-1]}",
        caption=f"{everywhere:,} ordered pairs are among the strongest {count} of every {each}: "
        f"{plain(', '.join(names))}.",
        help="**Paper, section 4 and App. F**: some points off the diagonal stay from model to model.",
        data=lambda: stay,
        code=_stay_lines(view, names, count, models=over == "models"),
        all_layers=over == "layers",
    )
    caption(view, about, key="stay-pairs")


def _stay_lines(view: ResultView, names: list[str], count: int, *, models: bool) -> str:
    if not models:
        return f"stay = pairs.that_stay(result.p, [f'layer {{n}}' for n in result.layers], {count})"
    kept = ".subset(result.provenance['facts_kept'], 'known')" if view.known_only else ""
    return (
        "# one P a model, all at the same layer:\n"
        "from dataclasses import replace\n\n"
        f"names = {names!r}\n"
        f"others = [run(replace(result.request, model=name), Store()){kept} for name in names]\n"
        f"stay = pairs.that_stay([o.p[o.at({view.layer})] for o in others], names, {count})"
    )


def _models(view: ResultView) -> dict[str, tuple[str, np.ndarray]]:
    """Name, and P at this layer, of every computed model on these facts, text and number of tokens, by its result."""
    like = archive.comparable(view.result, archive.computed(store()))
    kept = view.result.provenance.get("facts_kept")
    matrices = archive.at_layer(archive.fullest_of_each_model(like), view.layer, store(), kept=kept)
    return {computed.key: (computed.request.model, p) for computed, p in matrices}


def _paper(view: ResultView, published_pairs: pd.DataFrame, pair: Pair) -> None:
    places = published_pairs[["i", "j"]]
    theirs = [str(name) for name in published_pairs if name not in places]
    with_p = places.assign(p=view.p[places["i"], places["j"]])
    here = with_names(view.result, view.layer, with_p).drop(columns="tags")
    table = here.join(published_pairs[theirs])
    config = {
        name: st.column_config.TextColumn(
            name.partition("(")[2].rstrip(")") or name, width=66, help=f"published: {name}; not computed here"
        )
        for name in theirs
    }
    config["edited"] = st.column_config.TextColumn("edit fact i", width=130)
    config["suffers"] = st.column_config.TextColumn("and fact j suffers", width=130)
    pair_list(table, pair, key="paper", height=560, **config)
    about = FigureText(
        title="Top pairs, as published",
        caption=f"P[i, j] computed here, beside what the paper’s authors published: {', '.join(theirs)}. "
        f"{counted(len(table), 'published pair')} of facts that are here.",
        help=published.ABOUT,
        data=lambda: table,
        code=f"from kis_core.results import published\n\npublished_pairs = published.pairs(result, {view.layer})",
    )
    caption(view, about, key="paper-pairs")


main()
