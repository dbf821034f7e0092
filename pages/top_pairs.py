"""Top pairs: the strongest superposed pairs as a table, and those that stay (App. F, Tables 1-4)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from kis_core.results import archive, pairs, published
from kis_core.results.result import Result
from pages.parts.figures.figure import FigureText, say
from pages.parts.figures.inspector import has_pairs, inspector, picked_or_strongest
from pages.parts.figures.pair_list import pair_list
from pages.parts.frame import state
from pages.parts.frame.page import View, frame, panel, split
from pages.parts.frame.text import plain
from pages.parts.jobs.background import store
from pages.parts.jobs.results import remembered, shown

LISTS = {"strongest": "Strongest", "stay": "Pairs that stay", "paper": "In the paper"}
HELP = (
    "**Paper, App. F, Tables 1–4.** Ordered pairs by falling |P[i, j]| (eq. 16–18). *Same subject* and *same last "
    "token* tell that the prompts alone may explain a pair. Click a row to open the pair; a column’s head sorts."
)


def main() -> None:
    """The page."""
    view = frame("Top pairs")
    st.subheader("Which facts hang together most?", anchor=False)
    drawn(view, shown(view))


@panel
def drawn(view: View, result: Result) -> None:
    """The table and the inspector; a click reruns only this."""
    if not has_pairs(result, view.layer):
        return
    theirs = published.pairs(result, view.layer)
    options = [name for name in LISTS if name != "paper" or theirs is not None]
    if state.get("list") not in options:
        state.settle("list", options[0])
    pair = picked_or_strongest(result, view.layer)
    left, right = split(1.9, 1)
    with right:  # first, so that it answers before the browser redraws the table
        inspector(view, result, pair)
    with left:
        chosen = st.segmented_control(
            "List", options, format_func=LISTS.__getitem__, required=True, label_visibility="collapsed",
            **state.widget("list"),
        )  # fmt: skip
        if chosen == "strongest":
            _strongest(view, result, pair)
        elif chosen == "stay":
            _stay(view, result, pair)
        elif theirs is not None:
            _paper(view, result, theirs, pair)


def _strongest(view: View, result: Result, pair: tuple[int, int] | None) -> None:
    relations = sorted({fact.relation for fact in result.facts.facts if fact.relation})
    first = st.columns([1, 1, 1.3], vertical_alignment="bottom")
    count = first[0].number_input("Pairs", 1, state.MOST_PAIRS, step=50, **state.widget("k"))
    text = first[1].text_input(
        "Find", placeholder="a subject or word", max_chars=state.MOST_WORDS, **state.widget("find")
    )
    merge = first[2].toggle(
        "(i, j) and (j, i) as one", help="Told once, in the direction of the larger |P|.",
        **state.toggle("directions", on="merged"),
    )  # fmt: skip
    second = st.columns(2)
    kept = [name for name in state.get("relations") if name in relations]
    wanted = second[0].multiselect(
        "Relations", relations, placeholder="all relations", format_func=lambda name: name.replace("_", " "),
        disabled=not relations, **state.widget("relations", tuple, write=kept),
    )  # fmt: skip
    tags = second[1].multiselect(
        "Tags", pairs.TAGS, placeholder="all tags", **state.widget("tags", tuple, write=list(state.get("tags")))
    )
    found = pairs.table(
        result, view.layer, count=count, merge=merge, relations=wanted, tags=tags, text=text or ""
    )  # fmt: skip
    if found.empty:
        st.info("No pair fits. Take a filter away.", icon=":material/filter_alt_off:")
        return
    filters = ", ".join(
        f"{name}={value!r}"
        for name, value, default in (("merge", merge, False), ("relations", list(wanted), []), ("tags", list(tags), []),
                                     ("text", text or "", ""))
        if value != default
    )  # fmt: skip
    pair_list(found, pair, key="top", height=560)
    say(
        view,
        result,
        FigureText(
            title="Top pairs",
            caption=f"The {len(found):,} strongest pairs that fit, of {len(result.ranking(view.layer)):,} (App. F).",
            help=HELP,
            data=lambda: found,
            code=f"table = pairs.table(result, {view.layer}, count={count}{', ' + filters if filters else ''})",
            layer=view.layer,
        ),
        chart=None,
        key="top-pairs",
    )


def _stay(view: View, result: Result, pair: tuple[int, int] | None) -> None:
    columns = st.columns([1.2, 1], vertical_alignment="bottom")
    over = columns[0].segmented_control(
        "In the strongest of", ("layers", "models"), required=True, **state.widget("stay"),
        format_func={"layers": "every layer", "models": "every computed model"}.__getitem__,
    )  # fmt: skip
    count = columns[1].number_input("Pairs looked at in each", 1, state.MOST_PAIRS, step=50, **state.widget("k"))
    others = _models(view, result) if over == "models" else {}
    p = np.stack([one for _, one in others.values()]) if others else result.p
    names = [name for name, _ in others.values()] or [f"layer {layer}" for layer in result.layers]
    each = "layer" if over == "layers" else f"model at layer {view.layer}"
    if len(others if over == "models" else result.layers) < 2:
        st.info(
            "There is one only, so nothing to compare. Results of other models on the same facts join in as soon as "
            "they are computed: see **Layers and scaling**."
            if over == "models"
            else "This result has a single layer.",
            icon=":material/info:",
        )
        return
    found = remembered(
        result, ("stay", over, count, view.layer, tuple(others)), lambda: pairs.that_stay(p, names, count)
    )
    facts = result.facts.facts
    table = found.head(state.MOST_PAIRS)
    shown_table = pd.DataFrame(
        {
            "i": table["i"],
            "j": table["j"],
            "times": table["times"],
            "mean": table["mean"],
            "trend": table[names].to_numpy().tolist(),
            "edited": [pairs.told(facts[i]) for i in table["i"]],
            "suffers": [pairs.told(facts[j]) for j in table["j"]],
            "tags": [", ".join(pairs.tags_of(result, i, j)) for i, j in zip(table["i"], table["j"], strict=True)],
        }
    )
    kept = ".subset(result.provenance['facts_kept'], 'known')" if view.known_only else ""
    everywhere = int((found["times"] == len(names)).sum())
    pair_list(
        shown_table,
        pair,
        key="stay",
        height=520,
        times=st.column_config.NumberColumn(f"in of {len(names)}", width=70, help=f"in how many of {', '.join(names)}"),
        mean=st.column_config.NumberColumn("mean P", format="%+.3f", width=76),
        trend=st.column_config.LineChartColumn("P[i, j]", width=110, help=", ".join(names)),
    )
    say(
        view,
        result,
        FigureText(
            title=f"Pairs that stay, by {over[:-1]}",
            caption=f"{everywhere:,} ordered pairs are among the strongest {count} of every {each}: "
            f"{plain(', '.join(names))}.",
            help="**Paper, section 4 and App. F**: some points off the diagonal stay from model to model.",
            data=lambda: found,
            code=f"stay = pairs.that_stay(result.p, [f'layer {{n}}' for n in result.layers], {count})"
            if over == "layers"
            else "# one P a model, all at the same layer:\n"
            "from dataclasses import replace\n\n"
            f"names = {names!r}\n"
            f"others = [run(replace(result.request, model=name), Store()){kept} for name in names]\n"
            f"stay = pairs.that_stay([o.p[o.at({view.layer})] for o in others], names, {count})",
            layer=view.layer if over == "models" else None,
        ),
        chart=None,
        key="stay-pairs",
    )


def _models(view: View, result: Result) -> dict[str, tuple[str, np.ndarray]]:
    """Name, and P at this layer, of every computed model on these facts, text and number of tokens, by its result."""
    like = archive.comparable(result, archive.computed(store()))
    kept = result.provenance.get("facts_kept")
    found = {}
    for one in archive.fullest_of_each_model(like):
        other = archive.read(one.key, store())
        if other is not None and view.layer in other.layers:
            whole = other.p[other.at(view.layer)]
            found[one.key] = one.request.model, whole[np.ix_(kept, kept)] if kept else whole
    return found


def _paper(view: View, result: Result, theirs: pd.DataFrame, pair: tuple[int, int] | None) -> None:
    p = result.p[result.at(view.layer)]
    facts = result.facts.facts
    table = theirs.assign(
        p=p[theirs["i"], theirs["j"]],
        edited=[pairs.told(facts[i]) for i in theirs["i"]],
        suffers=[pairs.told(facts[j]) for j in theirs["j"]],
    )
    pair_list(
        table,
        pair,
        key="paper",
        height=560,
        published=st.column_config.TextColumn("published", width=90, help="the authors’ value"),
        source=st.column_config.TextColumn("source", width="medium"),
    )
    say(
        view,
        result,
        FigureText(
            title="Top pairs, as published",
            caption="The authors’ values beside those computed here (P[i, j]).",
            help=published.ABOUT,
            data=lambda: table,
            code=f"from kis_core import published\n\ntheirs = published.pairs(result, {view.layer})",
            layer=view.layer,
        ),
        chart=None,
        key="paper-pairs",
    )


main()
