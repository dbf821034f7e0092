"""Analysed demo models, simulators on stores of their own, and how their records are compared."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from kis_core import corpora, facts
from kis_core.analysis import pipeline
from kis_core.models import catalog, loading
from kis_core.models.files import ModelError
from kis_core.models.loaded import LoadedModel
from kis_core.request import Request
from kis_core.results.result import Result
from kis_core.simulator import EditRequest, Simulator
from kis_core.store.store import Store

EXACT = 1e-12  # the same float64 numbers, multiplied in another order
SHARES = 1e-5
"""Shares, relative to the largest: the key of the search and that of the gradients are read in float32 in batches of
other shapes, and differ by 1e-7; seen 3e-7."""
ROUNDING = 1e-4  # of a change in log-odds, read as the difference of two float32 passes; seen 1e-5
SMALL, LLAMA = "demo-gpt2-32", "demo-llama-128"
TOKENS = 100_000  # more than the text has: all of it is read
STEPS = 3  # enough for a δ of some size
FACTS = (
    *facts.builtin().facts[:8],
    facts.Fact("Oslo", "Everybody wants to live in {}", "forever"),  # ends with the subject
    facts.Fact("Malta", "The capital of {} is", "Valletta"),  # not of the demo fact base
)


@dataclass(frozen=True)
class Setting:
    """An analysed model: its result, the store as it was after the analysis, and the model itself."""

    result: Result
    root: Path
    loaded: LoadedModel

    def simulator(self, store: Store, load: Callable[[], LoadedModel] | None = None) -> Simulator:
        return Simulator(self.result, store, load or (lambda: self.loaded))

    def bench(self, to: Path) -> Simulator:
        """On a copy of the store that holds the analysis alone."""
        return self.simulator(copy_of(self, to))


class Loader:
    """Gives a model, and counts how often it was asked to."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded, self.calls = loaded, 0

    def __call__(self) -> LoadedModel:
        self.calls += 1
        return self.loaded


def no_model() -> LoadedModel:
    raise ModelError("the model is gone")


def analysed(
    folder: Path, model: str, chosen: Sequence[facts.Fact], *, text: str | None = None, tokens: int = TOKENS, texts: int
) -> Setting:
    """A model analysed over a text, or over so many documents of the demo corpus."""
    write_facts(folder / "facts.csv", chosen)
    (folder / "corpus.txt").write_text("\n".join(corpora.builtin().texts[:texts]), "utf-8")
    store = Store(folder / "cache")
    request = Request(model, str(folder / "facts.csv"), text or str(folder / "corpus.txt"), tokens)
    result = pipeline.run(request, store, device="cpu")
    store._index.close()
    return Setting(result, folder / "cache", loading.load(catalog.locate(model), device="cpu"))


def write_facts(path: Path, chosen: Sequence[facts.Fact]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        rows = ([fact.subject, fact.prompt, fact.target, fact.relation] for fact in chosen)
        csv.writer(stream).writerows([("subject", "prompt", "target", "relation"), *rows])


def copy_of(setting: Setting, to: Path) -> Store:
    return Store(shutil.copytree(setting.root, to))


def asked(simulator: Simulator, fact: int = 3, target: str = "Nokia", layer: int = 0, **how: Any) -> EditRequest:
    return simulator.request(fact, target, layer, **{"steps": STEPS} | how)


def assert_same(one: Any, other: Any) -> None:
    """Bit for bit, through records of records."""
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    elif hasattr(one, "__dataclass_fields__"):
        for field in fields(one):
            assert_same(getattr(one, field.name), getattr(other, field.name))
    else:
        assert one == other


def delete(store: Store, kind: str) -> int:
    keys = list(store.listed(kind))
    for key in keys:
        store.delete(key)
    return len(keys)
