"""Many facts: how thousands of facts overlap at one layer, without P ever being held as a whole."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from kis_core import charts, superposition
from kis_core.analysis.large_sets import LargeSet, sweep, tables, tally
from kis_core.facts import FactSet, saved
from kis_core.models import catalog
from kis_core.read_only import read_only
from kis_core.results import caveats
from kis_core.results.tags import SAME_SUBJECT
from kis_core.store.store import default_root
from kis_core.wording import counted, number
from pages.parts.figures import large_sets
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, Pick, caption, figure
from pages.parts.figures.grid import grid
from pages.parts.figures.inspector import P_BACK_HELP, P_HELP, cards, inspector, marked_off_diagonal, no_pair, tags
from pages.parts.figures.large_sets import LargeSetView
from pages.parts.figures.pair_list import pair_list
from pages.parts.frame import state
from pages.parts.frame.glossary import explain
from pages.parts.frame.page import frame, panel, split
from pages.parts.frame.views import View
from pages.parts.frame.widgets import segments
from pages.parts.jobs.results import answered, of_result, tell_beyond, there

SIDES = {"with": "All pairs", "without": "Without artefact pairs"}
NARROW = {
    "edited": st.column_config.TextColumn("edit fact i", width=148),
    "suffers": st.column_config.TextColumn("and fact j suffers", width=148),
}
LISTED = 200  # facts a list of those that leak or suffer
COUNTS_HELP = (
    "**Paper, Fig. 4.** Every off-diagonal entry of P is counted, on a logarithmic axis. The dashed line is a normal "
    "distribution of the same mean and standard deviation; the dotted one is what isotropic random keys would give, a "
    "normal of standard deviation 1/√dₘ.\n\n" + explain("tag")
)
PAIRS_HELP = (
    "**Paper, eq. 16–18 and App. F.** P[i, j] = kᵢᵀC⁻¹kⱼ / kᵢᵀC⁻¹kᵢ, the share of an edit of fact i that lands on "
    "fact j. All pairs were computed; the strongest are kept. Click a row to open the pair."
)
REACH_HELP = (
    "**Paper, eq. 16.** The root mean square of P[i, :] says how far an edit of fact i reaches, that of P[:, j] "
    "how much fact j gets from edits of all others; both leave the diagonal out."
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
    many = large_sets.shown(view)
    tell_beyond(len(many.facts))
    drawn(view, many)


def _offer() -> None:
    """A large set for those who have none."""
    if read_only():
        return
    words, button = st.columns([4.6, 1.4], vertical_alignment="center")
    words.markdown(
        f"Up to {saved.MOST_FACTS:,} facts: P is computed block by block, and only what the blocks show is kept. Bring "
        f"a file on **Your facts**, or try the whole fact base that the demo family was trained on."
    )
    if button.button("Try the demo fact base", icon=":material/play_arrow:", width="stretch"):
        base = FactSet("demo-fact-base", catalog.known_facts(catalog.DEFAULT, ()).everything)
        for choice, value in (("facts", saved.save(default_root(), base)), ("pair", None)):
            state.choose(choice, value)
        st.rerun()


@panel
def drawn(chosen: View, many: LargeSet) -> None:
    """Counts, lists and the picked pair; a click reruns only this."""
    if not len(many.sweep.every.pairs):
        no_pair(len(many.facts))
        return
    segments("artefacts", "Pairs", SIDES)
    clean = state.get("artefacts") == "without"
    table = tables.pairs(many, clean=clean)
    pair = state.picked(len(many.facts)) or _strongest(many, table)
    view = LargeSetView(chosen.request, chosen.layer, chosen.known_only, many, clean, pair)
    figures, lists = st.container(), st.container()
    with lists:  # first, so that it answers before the browser redraws the figures
        left, right = split(1.45, 1, "split-pairs")
        with right:
            _pair(view)
        with left:
            _pairs(view, table)
        _reach(view)
        _part(view)
    with figures:
        _counts(view)


def _strongest(many: LargeSet, table: pd.DataFrame) -> tuple[int, int]:
    """The strongest pair of this side, between two subjects if possible; if there is none, the strongest of all."""
    between = table[~table["tags"].str.contains(SAME_SUBJECT, regex=False)]
    listed = next((side for side in (between, table) if len(side)), None)
    pairs = many.sweep.every.pairs if listed is None else listed[["i", "j"]].to_numpy()
    return int(pairs[0][0]), int(pairs[0][1])


def _counts(view: LargeSetView) -> None:
    many, (i, j) = view.many, view.pair
    side = tables.side(many, clean=view.clean)
    bars = sweep.bars(side, many.mlp_width)
    mark, sentence = marked_off_diagonal(view.pair, float(many.window([i], [j])[0, 0]))
    far = sweep.outside(side)
    beyond = f" {far:,} beyond ±{tally.REACH} are not drawn." if far else ""
    left, right = split(1.45, 1, "split-counts")
    with left:
        figure(
            view,
            drawing(charts.counts, bars, picked=mark),
            FigureText(
                title=f"Counts of P, {_side(view).lower()}",
                caption=f"How many of {counted(side.moments.count, 'pair')} have which P (Fig. 4).{sentence}{beyond}",
                help=COUNTS_HELP,
                data=lambda: bars,
                code=f"sweep.bars(many.sweep.{'clean' if view.clean else 'every'}, many.mlp_width)",
            ),
            key="many-counts",
        )
    with right:
        _numbers(view)


def _side(view: LargeSetView) -> str:
    return SIDES["without" if view.clean else "with"]


def _numbers(view: LargeSetView) -> None:
    many = view.many
    columns = {SIDES[name]: tables.description(many, clean=name == "without") for name in SIDES}
    table = pd.DataFrame(columns)
    table["Isotropic keys"] = pd.Series({"mean": 0.0, "std": superposition.isotropic_std(many.mlp_width)})
    shown = pd.DataFrame({name: [_cell(row, value) for row, value in column.items()] for name, column in table.items()})
    shown.insert(0, "of P", table.index)
    widths: dict[Any, int] = dict.fromkeys(columns, 96) | {"of P": 112}
    short: dict[Any, str] = {SIDES["without"]: "No artefacts", "Isotropic keys": "Isotropic"}
    config: dict[Any, Any] = {
        name: st.column_config.TextColumn(short.get(name, str(name)), width=widths.get(name, 72)) for name in shown
    }
    grid(shown, hide_index=True, height="content", columns=config)
    zero = many.sweep.zero_keys
    unknown = bool(np.isnan(many.text_leverage).any())
    tagged = " ".join(["", *caveats.tags_in_words({many.layer: many.tags}, unknown=unknown)])
    caption(
        view,
        FigureText(
            title="Numbers of P",
            caption=f"Exact, over all pairs of {counted(len(many.facts), 'fact')}; the last rows count pairs."
            + (f" {counted(zero, 'fact has a zero key', 'facts have a zero key')}: left out." if zero else "")
            + tagged,
            help=COUNTS_HELP,
            data=lambda: table.rename_axis("of P").reset_index(),
            code="tables.description(many), tables.description(many, clean=True)",
        ),
        key="many-numbers",
    )


def _cell(row: Any, value: float) -> str:
    if row == "pairs" or row.startswith("|P|"):
        return number(value, ",.0f")
    return number(value, ".1f" if row == "excess kurtosis" else ".4f")


def _pairs(view: LargeSetView, table: pd.DataFrame) -> None:
    st.markdown(f"**The {counted(len(table), 'strongest pair')}** ({_side(view).lower()})")
    shown = table[["i", "j", "p", "p_back", "edited", "suffers", "tags"]]
    pair_list(shown, view.pair, key="many-pairs", height=460, **NARROW)
    caption(
        view,
        FigureText(
            title="Strongest pairs",
            caption="By falling |P[i, j]|. Click a row to open its pair.",
            help=PAIRS_HELP,
            data=lambda: table,
            code=f"tables.pairs(many, clean={view.clean})",
        ),
        key="many-pairs-export",
    )


def _pair(view: LargeSetView) -> None:
    """The inspector, where an analysis of all layers is stored; else the two prompts and their numbers."""
    full = there(view.request) if len(view.many.facts) <= saved.MOST_ON_EVERY_PAGE else None
    if full is not None and view.layer in full.layers:
        inspector(of_result(view, answered(full) if view.known_only else full), view.pair)
        return
    facts, (i, j) = view.many.facts.facts, view.pair
    cards(view.pair, facts, lambda fact: facts[fact].relation.replace("_", " "))
    p = view.many.window([i, j], [i, j])
    first, second = st.columns(2)
    first.metric("P[i, j]", number(p[0, 1], "+.3f"), help=P_HELP)
    second.metric("P[j, i]", number(p[1, 0], "+.3f"), help=P_BACK_HELP)
    tags(view.many.tags.names([i], [j])[0])


def _reach(view: LargeSetView) -> None:
    left, right = split(1, 1, "split-reach")
    with left:
        _reach_list(
            view, "leaking", "Edits that leak most", "the norm of the row: what an edit of i does to the others"
        )
    with right:
        norm = "the norm of the column: what j gets from edits of the others"
        _reach_list(view, "suffering", "Facts that suffer most", norm)


def _reach_list(view: LargeSetView, name: str, title: str, norm: str) -> None:
    table = getattr(tables, name)(view.many, clean=view.clean, count=LISTED)
    st.markdown(f"**{title}**")
    rms = st.column_config.NumberColumn("norm", format="%.4f", width=72, help="root mean square of P")
    pair_list(table, view.pair, key=f"many-{name}", height=320, **NARROW, rms=rms)
    caption(
        view,
        FigureText(
            title=title,
            caption=f"By {norm}. The other fact of the row is the one with the largest |P|.",
            help=REACH_HELP,
            data=lambda: table,
            code=f"tables.{name}(many, clean={view.clean}, count={LISTED})",
        ),
        key=f"many-{name}-export",
    )


def _part(view: LargeSetView) -> None:
    many, (i, j) = view.many, view.pair
    arranged = st.segmented_control(
        "Around the pair",
        tables.ARRANGED,
        format_func=tables.ARRANGED.__getitem__,
        required=True,
        default="nearest",
        key="many-arranged",
    )
    part = tables.around(many, i, j, arranged=arranged or "nearest")
    rows, columns = ([many.facts.facts[fact].subject for fact in side] for side in (part.rows, part.columns))
    limit = superposition.colour_limit(part.between)
    at = (int(np.flatnonzero(part.rows == i)[0]), int(np.flatnonzero(part.columns == j)[0]))
    figure(
        view,
        drawing(charts.part, part.p, limit=limit, row_names=rows, column_names=columns, picked=at),
        FigureText(
            title=f"P around the pair {i} and {j}",
            caption=f"{len(part.rows)} edited facts by {len(part.columns)} that suffer, around P[{i}, {j}]. Colours "
            f"end at ±{limit:g}. Click a cell.",
            help=PART_HELP,
            data=lambda: part.frame(many),
            code=f"tables.around(many, {i}, {j}, arranged={arranged!r}).frame(many)",
        ),
        key=state.fresh("many-part"),
        pick=Pick(charts.PICK, partial(_picked, part)),
    )


def _picked(part: tables.Part, cell: dict[str, Any]) -> None:
    state.forget("many-part")
    row, column = int(cell["r"]), int(cell["c"]) - len(part.rows)
    state.choose("pair", (int(part.rows[row]), int(part.columns[column])))


main()
