"""A table on a page: a missing number is a dash, and one that rounds to zero has no sign."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from kis_core.wording import MISSING


def grid(frame: pd.DataFrame, columns: Mapping[str, Any] | None = None, **options: Any) -> Any:
    """Draw a table as `st.dataframe` does, and return what that returns.

    Args:
        frame: the rows.
        columns: configuration of the columns.
        options: of `st.dataframe`.
    """
    configured = dict(columns or {})
    return st.dataframe(
        _without_minus_zero(frame, configured), column_config=configured, placeholder=MISSING, **options
    )


def _without_minus_zero(frame: pd.DataFrame, columns: Mapping[str, Any]) -> pd.DataFrame:
    """The browser would write -0.000 for what is smaller than the digits shown; all else stays as it is."""
    changed = {}
    for name, column in columns.items():
        form = (column.get("type_config") or {}).get("format") if isinstance(column, Mapping) else None
        digits = re.search(r"%\+?\.(\d+)f", str(form))  # a column may also be a mere label, or hidden by None
        if digits and name in frame and pd.api.types.is_float_dtype(frame[name]):
            least = 0.5 * 10.0 ** -int(digits[1])  # what is nearer to 0 rounds to it
            changed[name] = frame[name].mask((frame[name] <= 0) & (frame[name] >= -least), 0.0)
    return frame.assign(**changed)
