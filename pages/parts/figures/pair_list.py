"""A table of pairs: sort it, search it, click a row to pick the pair."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from kis_core.results import pairs
from kis_core.results.result import Result
from pages.parts.figures.grid import grid
from pages.parts.frame import state
from pages.parts.frame.glossary import explain

MARK = "◉"


def with_names(result: Result, layer: int, table: pd.DataFrame) -> pd.DataFrame:
    """A table of pairs `i` and `j` with the columns `edited`, `suffers` and `tags` (at a layer) added."""
    facts = result.facts.facts
    return table.assign(
        edited=[pairs.label_of(facts[i]) for i in table["i"]],
        suffers=[pairs.label_of(facts[j]) for j in table["j"]],
        tags=list(map(", ".join, result.tags(layer).names(table["i"].to_numpy(), table["j"].to_numpy()))),
    )


def pair_list(
    table: pd.DataFrame, picked: tuple[int, int] | None, *, key: str, height: int = 380, **columns: Any
) -> None:
    """Draw a table of pairs.

    Args:
        table: columns `i`, `j`, `edited`, `suffers` and whatever else is to be shown.
        picked: the pair to mark.
        key: of the table.
        height: in pixels.
        columns: configuration of the other columns.
    """
    here = (table["i"] == picked[0]) & (table["j"] == picked[1]) if picked else pd.Series(False, index=table.index)
    shown = table.assign(picked=here.map({True: MARK, False: ""}))
    names = ["picked", *(name for name in table.columns if name not in ("i", "j", "sentence_i", "sentence_j"))]
    p_column = partial(st.column_config.NumberColumn, format="%+.3f", width=72)
    grid(
        shown,
        key=key,
        height=min(height, 38 + 35 * max(1, len(shown))),
        hide_index=True,
        column_order=names,
        selection_mode="single-cell",
        on_select=partial(_clicked, key, table["i"].tolist(), table["j"].tolist()),
        columns={
            "picked": st.column_config.TextColumn("", width=30, help="the picked pair"),
            "rank": st.column_config.NumberColumn("rank", width=56, help="among all ordered pairs, by |P[i, j]|"),
            "p": p_column("P[i, j]", help=explain("superposition P")),
            "p_back": p_column("P[j, i]", help="share of an edit of j that lands on i"),
            "whitened_angle": st.column_config.NumberColumn(
                "angle", format="%.0f°", width=60, help=explain("whitened angle")
            ),
            "edited": st.column_config.TextColumn("edit fact i", width=165),
            "suffers": st.column_config.TextColumn("and fact j suffers", width=165),
            "relation_i": st.column_config.TextColumn("relation of i", width=120),
            "relation_j": st.column_config.TextColumn("relation of j", width=120),
            "tags": st.column_config.TextColumn("tags", width=130, help=explain("tag")),
            **columns,
        },
    )


def _clicked(key: str, i: list[int], j: list[int]) -> None:
    cells = st.session_state[key]["selection"].get("cells")
    if cells and cells[0][0] < len(i):
        row = cells[0][0]
        state.choose("pair", (int(i[row]), int(j[row])))
