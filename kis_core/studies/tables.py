"""Tables of a study in Markdown, as pandas and tabulate write them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from kis_core.wording import MISSING


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown; cells are written as they are, with a pipe in them escaped."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    columns = [head.replace("|", "\\|") for head in heads]
    return pd.DataFrame(cells, columns=columns).to_markdown(index=False, disable_numparse=True)


def mean(values: pd.Series[Any]) -> str:
    """The mean of what is known, with two digits; a dash where nothing is."""
    known = values.dropna()
    return f"{known.mean():.2f}" if len(known) else MISSING
