"""A table of pairs: sort it, search it, click a row to pick the pair."""

from __future__ import annotations

from functools import partial

import pandas as pd
import streamlit as st

from pages.parts.figures.grid import grid
from pages.parts.frame import state

MARK = "◉"
P_COLUMN = {"format": "%+.3f", "width": 72}


def pair_list(
    table: pd.DataFrame, picked: tuple[int, int] | None, *, key: str, height: int = 380, **columns: object
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
    key = f"{key}"
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
            "p": st.column_config.NumberColumn("P[i, j]", help="share of an edit of i that lands on j", **P_COLUMN),
            "p_back": st.column_config.NumberColumn("P[j, i]", help="the other way round", **P_COLUMN),
            "whitened_angle": st.column_config.NumberColumn(
                "angle", format="%.0f°", width=60, help="whitened (Fig. 6)"
            ),
            "edited": st.column_config.TextColumn("edit fact i", width=165),
            "suffers": st.column_config.TextColumn("and fact j suffers", width=165),
            "relation_i": st.column_config.TextColumn("relation of i", width=120),
            "relation_j": st.column_config.TextColumn("relation of j", width=120),
            "tags": st.column_config.TextColumn("tags", width=130, help="why the prompts alone may explain it"),
            **columns,
        },
    )


def _clicked(key: str, i: list[int], j: list[int]) -> None:
    cells = st.session_state[key]["selection"].get("cells")
    if cells and cells[0][0] < len(i):
        row = cells[0][0]
        state.choose("pair", (int(i[row]), int(j[row])))
