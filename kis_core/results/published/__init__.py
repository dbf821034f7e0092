"""Numbers that the paper's authors published, to compare with those computed here.

Sources: GPT2-Small: the heatmaps of P in the authors' repository, read off their pictures (± 0.004, so given to two
digits; the 25 largest |P| of each layer). GPT-J at layer 0: the fourteen ordered pairs of P = 1.00, which are those
whose subjects end in the same token. GPT2-Medium and -Large: the text of section 4. The numbers of App. F, Tables 1-4,
beyond these are not included.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib import resources

import pandas as pd

from kis_core.facts import PAPER_FACTS, Fact
from kis_core.results.result import Result

FACTS_SHA256 = "af524b709f0ef17417e0a3dcd1415290c0bd1409f96addb4bdfeef32cd3007c7"
"""Of subject and prompt of the paper's 128 facts, in its order."""
SOURCES = {
    "gpt2": "authors’ heatmaps, ± 0.004",
    "gpt-j-6b": "App. F: pairs at 1.00",
    "gpt2-medium": "section 4",
    "gpt2-large": "section 4",
}
KURTOSIS = {"gpt2": (72.7, 24.5, 28.9, 29.3, 26.7, 20.0, 15.3, 10.8, 9.8, 9.7, 8.4, 7.8)}
"""Excess kurtosis of P by layer, read off the authors' plots (they print the first to one digit; others ± 0.5)."""
ABOUT = (
    "**Published values.** GPT2-Small: read off the heatmaps in the authors’ repository (± 0.004), the 25 strongest "
    "ordered pairs of each layer. GPT-J: the fourteen ordered pairs of P = 1.00 at layer 0 (App. F). GPT2-Medium and "
    "-Large: section 4. The other numbers of Tables 1–4 are not included."
)


@cache
def _table() -> pd.DataFrame:
    with resources.files(__package__).joinpath("pairs.csv").open("rb") as stream:
        return pd.read_csv(stream, dtype={"published": str})


def are_the_papers(facts: Sequence[Fact]) -> bool:
    """Whether the first 128 of these facts are those of the paper, in its order."""
    first = [[fact.subject, fact.prompt] for fact in facts[:PAPER_FACTS]]
    return hashlib.sha256(json.dumps(first).encode()).hexdigest() == FACTS_SHA256


def pairs(result: Result, layer: int) -> pd.DataFrame | None:
    """The published strongest pairs of this model and layer, where model and facts are the paper's.

    Returns:
        columns `i`, `j`, `published` (text, as published), `source`; None where nothing was published.
    """
    table = _table()
    published = table[(table["model"] == result.request.model) & (table["layer"] == layer)]
    if published.empty or not are_the_papers(result.facts.facts):
        return None
    return published[["i", "j", "published"]].assign(source=SOURCES[result.request.model]).reset_index(drop=True)
