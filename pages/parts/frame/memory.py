"""What the server holds in memory for good, and how little the garbage collector looks at it."""

from __future__ import annotations

import gc

import streamlit as st


@st.cache_resource(show_spinner=False)
def settle() -> None:
    """Take all that is imported out of the garbage collector's sight, once a server.

    Streamlit collects after every run of a page, and two hundred thousand objects of imported modules cost a fifth of a
    second each time: a third of what a visit costs. Called before any model is loaded, as what is in sight now is
    never looked at again, and so never freed if it holds itself in a ring.
    """
    import pyarrow  # noqa: F401 - what the first charts and tables would import after this
    import scipy.stats  # noqa: F401

    gc.collect()
    gc.freeze()
