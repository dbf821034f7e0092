"""Tables on the pages: what the browser gets of numbers that are missing or round to zero."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest

from kis_core.wording import MISSING


def page() -> None:
    import pandas as pd
    import streamlit as st

    from pages.parts.figures.grid import grid

    frame = pd.DataFrame(
        {"p": [-0.0004, -0.0, -0.0006, 0.0004, None], "plain": [-0.0004] * 5, "age": [None, 1, 2, 3, 4]}
    )
    grid(frame, columns={"p": st.column_config.NumberColumn("P", format="%+.3f"), "age": None, "plain": "a label"})


def test_a_table_shows_a_dash_for_what_is_missing_and_no_minus_zero() -> None:
    (table,) = AppTest.from_function(page).run().dataframe
    assert table.proto.placeholder == MISSING
    assert [f"{value:+.3f}" for value in table.value["p"][:4]] == ["+0.000", "+0.000", "-0.001", "+0.000"]
    assert table.value["p"].isna().tolist() == [False] * 4 + [True]
    assert table.value["p"][3] == 0.0004, "all else stays as it is"
    assert (table.value["plain"] == -0.0004).all(), "its digits are the browser\u2019s choice"
