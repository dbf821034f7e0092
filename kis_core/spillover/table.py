"""Forecast and measurement of an edit, one row a fact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

COLUMNS = (
    "index", "subject", "p", "share", "shift_predicted", "shift_measured", "dlogodds_first_order",
    "dlogodds_all_tokens", "dlogodds_propagated", "dlogodds_measured", "dlogp_measured", "answer_before",
    "answer_after",
)  # fmt: skip


def table(
    subjects: Sequence[str],
    answers_before: Sequence[str],
    numbers: Mapping[str, np.ndarray],
    answers_after: Sequence[str],
) -> pd.DataFrame:
    """The columns `COLUMNS`, facts in order.

    Args:
        subjects: (m,).
        answers_before: (m,).
        numbers: the columns between, (m,) each: p is always P[e, j], share the u·k_j of the edit itself (the same for
            an edit of eq. 2), shifts are along δ, the rest changes of log-odds, log p.
        answers_after: (m,).
    """
    columns = {"index": np.arange(len(subjects)), "subject": subjects} | dict(numbers)
    return pd.DataFrame(columns | {"answer_before": answers_before, "answer_after": answers_after})[list(COLUMNS)]
