"""Many facts: how thousands of facts overlap at one layer, without P ever being there whole."""

from __future__ import annotations

from functools import partial
from html import escape

import numpy as np
import pandas as pd
import streamlit as st

from kis_core import charts, superposition
from kis_core.analysis.large_sets import ManyFacts, sweep, tally
from kis_core.analysis.large_sets import tables as many_tables
from kis_core.facts import FactSet, saved
from kis_core.models import catalog
from kis_core.results.pairs import TAGS
from kis_core.store.store import default_root
from kis_core.wording import counted, number
from pages.parts.figures.drawing import drawing
from pages.parts.figures.grid import grid
from pages.parts.figures.inspector import CARD, EDITED, SUFFERS, inspector
from pages.parts.figures.large_sets import LargeSetText, figure, say, swept
from pages.parts.figures.pair_list import pair_list
from pages.parts.frame import state
from pages.parts.frame.page import View, frame, panel, split
from pages.parts.frame.text import sentence
from pages.parts.jobs.results import narrowed, tell_beyond, there

SIDES = {"with": "All pairs", "without": "Without artefact pairs"}
NARROW = {
    "edited": st.column_config.TextColumn("edit fact i", width=148),
    "suffers": st.column_config.TextColumn("and fact j suffers", width=148),
}
LISTED = 200  # facts a list of those that leak or suffer
COUNTS_HELP = (
    "**Paper, Fig. 4.** Every off-diagonal entry of P is counted, on a logarithmic axis. The dashed line is a normal "
    "distribution of the same mean and standard deviation; the dotted one is what isotropic random keys would give, a "
    "normal of standard deviation 1/√dₘ. *Artefact pairs* have the same subject or the same last token: their prompts "
    "alone make their keys alike."
)
PAIRS_HELP = (
    "**Paper, eq. 16–18 and App. F.** P[i, j] = kᵢᵀC⁻¹kⱼ / kᵢᵀC⁻¹kᵢ, the share of an edit of fact i that lands on "
    "fact j. All pairs were looked at; the strongest are kept. Click a row to open the pair."
)
REACH_HELP = (
    "**Paper, eq. 16.** The root mean square of P[i, :] tells how far an edit of fact i reaches, that of P[:, j] how "
    "much fact j gets of the edits of all others; both leave the diagonal out."
)
PART_HELP = (
    "**Paper, eq. 16–18.** Rows are edited, columns suffer. *Nearest*: the first row is fact i, then come the facts "
    "whose edits land on j most; the first column is fact j, then come those that an edit of i lands on most."
)


def main() -> None:
    """The page."""
    view = frame("Many facts")
    st.subheader("Among thousands of facts, which hang together?", anchor=False)
    _offer()
    found = swept(view)
    tell_beyond(len(found.facts))
    drawn(view, found)


def _offer() -> None:
    """A large set for those who have none."""
    words, button = st.columns([4.6, 1.4], vertical_alignment="center")
    words.markdown(
        f"Up to {saved.MOST_FACTS:,} facts: P is gone over in blocks, and only what it tells is kept. Bring a file "
        f"on **Your facts**, or try the whole fact base that the demo family was taught."
    )
    if button.button("Try the demo fact base", icon=":material/play_arrow:", width="stretch"):
        base = FactSet("demo-fact-base", catalog.known_facts(catalog.DEFAULT, ()).everything)
        for choice, value in (("facts", saved.save(default_root(), base)), ("pair", None)):
            state.choose(choice, value)
        st.rerun()


@panel
def drawn(view: View, found: ManyFacts) -> None:
    """Counts, lists and the picked pair; a click reruns only this."""
    if not len(found.sweep.every.pairs):
        why = "there is a single fact" if len(found.facts) == 1 else "the keys of these facts are zero"
        st.info(f"There is no pair to look at: {why}.", icon=":material/info:")
        return
    st.segmented_control("Pairs", SIDES, format_func=SIDES.__getitem__, required=True, **state.widget("artefacts"))
    clean = state.get("artefacts") == "without"
    table = many_tables.pairs(found, clean=clean)
    pair = state.picked(len(found.facts)) or _strongest(found, table)
    figures, lists = st.container(), st.container()
    with lists:  # first, so that it answers before the browser redraws the figures
        left, right = split(1.45, 1, "split-pairs")
        with right:
            _pair(view, found, *pair)
        with left:
            _pairs(view, found, table, pair, clean)
        _reach(view, found, pair, clean)
        _part(view, found, *pair)
    with figures:
        _counts(view, found, pair, clean)


def _strongest(found: ManyFacts, table: pd.DataFrame) -> tuple[int, int]:
    """The strongest pair of this side, between two subjects if possible; if there is none, the strongest of all."""
    between = table[~table["tags"].str.contains(TAGS[0], regex=False)]
    shown = next((one for one in (between, table) if len(one)), None)
    pairs = found.sweep.every.pairs if shown is None else shown[["i", "j"]].to_numpy()
    return int(pairs[0][0]), int(pairs[0][1])


def _counts(view: View, found: ManyFacts, pair: tuple[int, int], clean: bool) -> None:
    spread = many_tables.side(found, clean=clean)
    bars = sweep.bars(spread, found.mlp_width)
    left, right = split(1.45, 1, "split-counts")
    p = float(found.window([pair[0]], [pair[1]])[0, 0])
    marked = {f"P[{pair[0]}, {pair[1]}]": p} if pair[0] != pair[1] and np.isfinite(p) else {}
    told = f" Marked: the picked pair, P[{pair[0]}, {pair[1]}] = {number(p, '+.3f')}." if marked else ""
    far = sweep.outside(spread)
    beyond = f" {far:,} beyond ±{tally.REACH} are not drawn." if far else ""
    with left:
        figure(
            view,
            found,
            drawing(charts.counts, bars, picked=marked),
            LargeSetText(
                title=f"Counts of P, {SIDES['without' if clean else 'with'].lower()}",
                caption=f"How many of {counted(spread.moments.count, 'pair')} have which P (Fig. 4).{told}{beyond}",
                help=COUNTS_HELP,
                data=lambda: bars,
                code=f"sweep.bars(found.sweep.{'clean' if clean else 'every'}, found.mlp_width)",
            ),
            key="many-counts",
        )
    with right:
        _numbers(view, found)


def _numbers(view: View, found: ManyFacts) -> None:
    columns = {SIDES[name]: many_tables.description(found, clean=name == "without") for name in SIDES}
    table = pd.DataFrame(columns)
    table["Isotropic keys"] = pd.Series({"mean": 0.0, "std": superposition.isotropic_std(found.mlp_width)})
    shown = pd.DataFrame({name: [_told(row, value) for row, value in column.items()] for name, column in table.items()})
    shown.insert(0, "of P", table.index)
    widths = dict.fromkeys(columns, 96) | {"of P": 112}
    short = {SIDES["without"]: "No artefacts", "Isotropic keys": "Isotropic"}
    grid(
        shown,
        hide_index=True,
        height="content",
        columns={
            name: st.column_config.TextColumn(short.get(name, name), width=widths.get(name, 72)) for name in shown
        },
    )
    zero = found.sweep.zero_keys
    say(
        view,
        found,
        LargeSetText(
            title="Numbers of P",
            caption=f"Exact, over all pairs of {counted(len(found.facts), 'fact')}; the last rows count pairs."
            + (f" {counted(zero, 'fact has a zero key', 'facts have a zero key')}: left out." if zero else ""),
            help=COUNTS_HELP,
            data=lambda: table.rename_axis("of P").reset_index(),
            code="many_tables.description(found), many_tables.description(found, clean=True)",
        ),
        key="many-numbers",
    )


def _told(row: str, value: float) -> str:
    if row == "pairs" or row.startswith("|P|"):
        return number(value, ",.0f")
    return number(value, ".1f" if row == "excess kurtosis" else ".4f")


def _pairs(view: View, found: ManyFacts, table: pd.DataFrame, pair: tuple[int, int], clean: bool) -> None:
    st.markdown(f"**The {counted(len(table), 'strongest pair')}** ({SIDES['without' if clean else 'with'].lower()})")
    shown = table[["i", "j", "p", "p_back", "edited", "suffers", "tags"]]
    pair_list(shown, pair, key="many-pairs", height=460, **NARROW)
    say(
        view,
        found,
        LargeSetText(
            title="Strongest pairs",
            caption="By falling |P[i, j]|. Click a row to open its pair.",
            help=PAIRS_HELP,
            data=lambda: table,
            code=f"many_tables.pairs(found, clean={clean})",
        ),
        key="many-pairs-export",
    )


def _pair(view: View, found: ManyFacts, i: int, j: int) -> None:
    """The inspector, where an analysis of all layers is stored; else the two prompts and their numbers."""
    full = there(view.request) if len(found.facts) <= saved.MOST_ON_EVERY_PAGE else None
    if full is not None and view.layer in full.layers:
        kept = [fact for fact, known in enumerate(full.known) if known] if view.known_only else range(len(full.facts))
        inspector(view, narrowed(full, list(kept), "the model answers"), (i, j))
        return
    roles = ((i, EDITED, f"edit fact i = {i}"), (j, SUFFERS, f"and fact j = {j} suffers"))
    st.html(
        "".join(
            CARD.format(
                colour=colour,
                role=role,
                sentence=sentence(found.facts.facts[fact]),
                relation=escape(found.facts.facts[fact].relation.replace("_", " ")),
            )
            for fact, colour, role in roles
        )
    )
    p = found.window([i, j], [i, j])
    first, second = st.columns(2)
    first.metric("P[i, j]", number(p[0, 1], "+.3f"), help="share of the edit of i that lands on j (eq. 16)")
    second.metric("P[j, i]", number(p[1, 0], "+.3f"), help="the other way round")
    for tag in many_tables.tags_of(found, i, j):
        st.badge(tag, icon=":material/warning:", color="orange", help="The prompts alone make these keys alike.")


def _reach(view: View, found: ManyFacts, pair: tuple[int, int], clean: bool) -> None:
    for column, way, title, told in zip(
        split(1, 1, "split-reach"),
        ("leaking", "suffering"),
        ("Edits that leak most", "Facts that suffer most"),
        ("By the norm of the row: what an edit of i does to the others.",
         "By the norm of the column: what j gets of the edits of the others."),
        strict=True,
    ):  # fmt: skip
        frame = getattr(many_tables, way)(found, clean=clean, count=LISTED)
        with column:
            st.markdown(f"**{title}**")
            pair_list(
                frame,
                pair,
                key=f"many-{way}",
                height=320,
                **NARROW,
                rms=st.column_config.NumberColumn("norm", format="%.4f", width=72, help="root mean square of P"),
            )
            say(
                view,
                found,
                LargeSetText(
                    title=title,
                    caption=f"{told} The other fact of the row is the one hit hardest.",
                    help=REACH_HELP,
                    data=lambda frame=frame: frame,
                    code=f"many_tables.{way}(found, clean={clean}, count={LISTED})",
                ),
                key=f"many-{way}-export",
            )


def _part(view: View, found: ManyFacts, i: int, j: int) -> None:
    arranged = st.segmented_control(
        "Around the pair", many_tables.ARRANGED, format_func=many_tables.ARRANGED.__getitem__, required=True,
        default="nearest", key="many-arranged",
    )  # fmt: skip
    part = many_tables.around(found, i, j, arranged=arranged or "nearest")
    names = [[found.facts.facts[fact].subject for fact in side] for side in (part.rows, part.columns)]
    limit = charts.colour_limit(part.between)
    at = (int(np.flatnonzero(part.rows == i)[0]), int(np.flatnonzero(part.columns == j)[0]))
    key = state.fresh("many-part")
    figure(
        view,
        found,
        drawing(charts.part, part.p, limit=limit, row_names=names[0], column_names=names[1], picked=at),
        LargeSetText(
            title=f"P around the pair {i} and {j}",
            caption=f"{len(part.rows)} edited facts by {len(part.columns)} that suffer, around P[{i}, {j}]. Colours "
            f"end at ±{limit:g}. Click a cell.",
            help=PART_HELP,
            data=lambda: part.frame(found),
            code=f"many_tables.around(found, {i}, {j}, arranged={arranged!r}).frame(found)",
        ),
        key=key,
        on_select=partial(_clicked, key, part),
        selection_mode=charts.PICK,
    )


def _clicked(key: str, part: many_tables.Part) -> None:
    if cells := state.clicked(key, charts.PICK):
        state.forget("many-part")
        row, column = int(cells[0]["r"]), int(cells[0]["c"]) - len(part.rows)
        state.choose("pair", (int(part.rows[row]), int(part.columns[column])))


main()
