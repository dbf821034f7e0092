"""Verdicts under a heading: what the paper claims, and what the data at hand say to it."""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st

from kis_core.superposition.verdicts import Verdict

SIGNS = {True: ":green[:material/check_circle:]", False: ":orange[:material/cancel:]", None: ":gray[:material/help:]"}
WORDS = {True: "holds here", False: "does not hold here", None: "is open here"}
HELP = (
    "Intervals are 95 % over facts: each of many draws takes as many facts, with replacement. A claim holds, or does "
    "not, where the whole interval says so, and is open otherwise."
)


def verdicts(judged: Iterable[Verdict]) -> None:
    """Draw them, a line each; the sign of each is said in words as well."""
    lines = [f"{SIGNS[one.holds]} **{one.finding}** *{one.claim}* This {WORDS[one.holds]}." for one in judged]
    st.markdown("  \n".join(lines), help=HELP)
