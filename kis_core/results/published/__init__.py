"""Numbers that the paper's authors published, to stand beside those computed here; none of them is computed here.

- `tables.csv`: Tables 1-4 of the paper (Hu et al., arXiv 2408.07413, App. F), the twenty strongest ordered pairs at
  layer 0 of GPT2-Small, GPT2-Medium, GPT2-Large and GPT-J, in their order; a fact is known by its subject and prompt.
- `heatmaps.csv`: P of GPT2-Small in every layer, read off the pictures in the authors' repository and so given to two
  digits; the 25 largest |P| of each layer, by the numbers of the paper's facts.
- `KURTOSIS`: of GPT2-Small, read off the authors' plots.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib import resources

import pandas as pd

from kis_core.facts import PAPER_FACTS, Fact
from kis_core.models import catalog
from kis_core.results.result import Result

FACTS_SHA256 = "af524b709f0ef17417e0a3dcd1415290c0bd1409f96addb4bdfeef32cd3007c7"
"""Of subject and prompt of the paper's 128 facts, in its order."""
HEATMAPS, OF_HEATMAPS = "heatmaps", "gpt2"
TABLES = {
    "gpt2": "GPT2-Small (Table 1)",
    "gpt2-medium": "GPT2-Medium (Table 2)",
    "gpt2-large": "GPT2-Large (Table 3)",
    "gpt-j-6b": "GPT-J (Table 4)",
}
"""The columns of `pairs` by the models that the paper's tables are of."""
TABLES_LAYER = 0
KURTOSIS = {"gpt2": (72.7, 24.5, 28.9, 29.3, 26.7, 20.0, 15.3, 10.8, 9.8, 9.7, 8.4, 7.8)}
"""Excess kurtosis of P by layer, read off the authors' plots (they print the first to one digit; others ± 0.5)."""
ABOUT = (
    "**Published values** of P[i, j], by Hu et al., arXiv 2408.07413. Only the column P[i, j] is computed here.\n"
    "- **Tables 1–4** (App. F): the twenty strongest ordered pairs at layer 0 of GPT2-Small, GPT2-Medium, GPT2-Large "
    "and GPT-J. A fact here is taken for the paper’s if it has the same subject; of several, the one with the same "
    "prompt. Pairs of which a fact is missing here are left out.\n"
    "- **heatmaps**: GPT2-Small on the paper’s own 128 facts, the 25 strongest ordered pairs of each layer, read off "
    "the heatmaps in the authors’ repository. At layer 0 they differ from Table 1 by up to 0.011."
)


def are_the_papers(facts: Sequence[Fact]) -> bool:
    """Whether the first 128 of these facts are those of the paper, in its order."""
    first = [[fact.subject, fact.prompt] for fact in facts[:PAPER_FACTS]]
    return hashlib.sha256(json.dumps(first).encode()).hexdigest() == FACTS_SHA256


def pairs(result: Result, layer: int) -> pd.DataFrame | None:
    """The published pairs of facts that are here, beside whatever real model; of the demo family none.

    Args:
        result: whose facts are looked for: those of the tables by their subjects.
        layer: the tables are of layer 0, and for no other.

    Returns:
        columns `i`, `j`, and of each source that has any of the pairs one with its values as text, as published:
        `HEATMAPS` for GPT2-Small on the paper's own facts, and those of `TABLES`; None where no pair is here.
    """
    model, facts = result.request.model, result.facts.facts
    if catalog.is_demo(model):
        return None
    sources: dict[str, dict[tuple[int, int], str]] = {}
    if model == OF_HEATMAPS and are_the_papers(facts):
        rows = _read("heatmaps")
        rows = rows[rows["layer"] == layer]
        sources[HEATMAPS] = dict(zip(zip(rows["i"], rows["j"], strict=True), rows["published"], strict=True))
    if layer == TABLES_LAYER:
        for name in sorted(TABLES, key=lambda name: name != model):  # the model's own table first
            sources[TABLES[name]] = _found(facts, name)
    places = list(dict.fromkeys(place for values in sources.values() for place in values))
    if not places:
        return None
    columns = {source: [values.get(place) for place in places] for source, values in sources.items() if values}
    return pd.DataFrame({"i": [i for i, _ in places], "j": [j for _, j in places]} | columns)


def _found(facts: Sequence[Fact], model: str) -> dict[tuple[int, int], str]:
    """The pairs of a model's table whose facts are both here, in its order."""
    numbers: dict[str, list[int]] = {}
    for number, fact in enumerate(facts):
        numbers.setdefault(fact.subject, []).append(number)

    def place(subject: str, prompt: str) -> int | None:
        alike = numbers.get(subject, [])
        return next((number for number in alike if facts[number].prompt == prompt), alike[0] if alike else None)

    by_pair: dict[tuple[int, int], str] = {}
    table = _read("tables")
    for _, published, *edited_and_suffering in table[table["model"] == model].itertuples(index=False, name=None):
        i, j = place(*edited_and_suffering[:2]), place(*edited_and_suffering[2:])
        if i is not None and j is not None and i != j:
            by_pair.setdefault((i, j), published)
    return by_pair


@cache
def _read(name: str) -> pd.DataFrame:
    with resources.files(__package__).joinpath(f"{name}.csv").open("rb") as stream:
        return pd.read_csv(stream, dtype={"published": str})
