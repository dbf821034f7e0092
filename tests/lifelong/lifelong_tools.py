"""What the tests of sequences of edits share: an analysed demo model, quick searches, and keys read by hand."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kis_core import facts, lifelong
from kis_core.analysis import pipeline
from kis_core.facts import Fact
from kis_core.lifelong import Draw, LifelongRequest
from kis_core.models import catalog
from kis_core.models.architecture import recognise
from kis_core.models.loaded import LoadedModel
from kis_core.simulator import Simulator
from kis_core.store.store import Store
from tests.simulator import simulator_tools
from tests.simulator.simulator_tools import Setting, assert_same, write_facts

__all__ = ["assert_same", "write_facts"]

MODEL = "demo-gpt2-32"
TOKENS = 4000  # enough for keys of length 128, so that nothing is said of too few
LAST = 3
FACTS = (
    *facts.builtin().facts[:20],
    Fact("Malta", "The capital of {} is", "Rome", "country_capital"),  # which the model does not answer
    Fact("Oslo", "Everybody wants to live in {}", "forever"),  # ends with the subject, so that the last layer reaches
)
UNKNOWN, ENDS_WITH_SUBJECT = 20, 21
QUICK: dict[str, Any] = {"steps": 3, "prefixes": ((2, 4),)}


@pytest.fixture(autouse=True)
def weights_stay(demo: Setting) -> Iterator[None]:
    """After every test: the same bits in every weight, and no hook."""
    before = demo.loaded.digest()
    yield
    assert demo.loaded.digest() == before
    assert not any(module._forward_hooks for module in demo.loaded.model.modules())


def analysed(folder: Path, model: str = MODEL, text: str | None = None, chosen: Sequence[Fact] = FACTS) -> Setting:
    """A model with all that runs share worked out: C, gradients, and the facts that edits are drawn from."""
    setting = simulator_tools.analysed(folder, model, chosen, text=text, tokens=TOKENS, texts=400)
    store = Store(setting.root)
    lifelong.pool(setting.simulator(store))
    store._index.close()
    return setting


def copied(folder: Path) -> str:
    """The same model as a folder that the catalogue does not know: only the facts looked at can be edited."""
    return str(shutil.copytree(catalog.locate(MODEL).path, folder / "a model of somebody"))


def asked(
    bench: Simulator, method: str = "rome", edits: int = 6, draw: Draw | None = None, **changed: Any
) -> LifelongRequest:
    """A request whose searches are short."""
    layers, every = changed.pop("layers", 0), changed.pop("every", 2)
    return lifelong.ask(bench, layers, method, edits, draw, every=every, **(QUICK | changed))


def with_change(loaded: LoadedModel, layer: int, change: np.ndarray, *, double: bool = False) -> LoadedModel:
    """A copy of a model whose weights really are W + ΔW; change is (d, d_m)."""
    model = copy.deepcopy(loaded.model)
    model = model.double() if double else model
    weight = model.transformer.h[layer].mlp.c_proj.weight  # Conv1D stores (in, out)
    with torch.no_grad():
        weight += torch.from_numpy(change.T).to(weight.dtype)
    return LoadedModel(model, loaded.tokenizer, recognise(model), loaded.device)


@torch.no_grad()
def at_subject(loaded: LoadedModel, fact: Fact, layer: int) -> tuple[np.ndarray, np.ndarray]:
    """Key and output of a layer's down-projection where the subject ends, read with a plain hook; float64."""
    encoded, end = loaded.tokenizer(fact.text, return_offsets_mapping=True), fact.subject_span[1]
    at = max(k for k, (first, last) in enumerate(encoded["offset_mapping"]) if first < end and last > 0)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    handle = loaded.model.transformer.h[layer].mlp.c_proj.register_forward_hook(
        lambda _, inputs, output: seen.append((inputs[0][0, at], output[0, at]))
    )
    loaded.model(torch.tensor([encoded["input_ids"]]))
    handle.remove()
    key, output = seen[0]
    return key.double().numpy(), output.double().numpy()


@torch.no_grad()
def log_odds(loaded: LoadedModel, fact: Fact) -> float:
    """log(p / (1 - p)) of the whole right answer, straight from the logits, in float64."""
    ids = loaded.tokenizer(f"{fact.text} {fact.target}")["input_ids"]
    begun = len(loaded.tokenizer(fact.text)["input_ids"])
    logits = loaded.model(torch.tensor([ids])).logits[0].double()
    log_prob = sum(float(torch.log_softmax(logits[k - 1], dim=-1)[ids[k]]) for k in range(begun, len(ids)))
    return log_prob - float(np.log(-np.expm1(log_prob)))


def moment(bench: Simulator, layer: int) -> np.ndarray:
    """C."""
    return pipeline.second_moment(bench.result, layer, bench.store, lambda: bench.model)
