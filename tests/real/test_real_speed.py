"""How long an edit takes on SmolLM2-135M, and C of all its layers against a bare forward pass. Prints only."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from kis_core import corpora
from kis_core.analysis import pipeline
from kis_core.covariance.passes import Pass, tokens_per_batch
from kis_core.covariance.reading import Extent
from kis_core.facts import REAL_NAME
from kis_core.models import catalog, loading
from kis_core.models.batching import pad
from kis_core.models.loaded import LoadedModel
from kis_core.request import Request
from kis_core.scoring.log_odds import batched, read
from kis_core.simulator import Simulator
from kis_core.store.store import Store
from tests.benchmarks.test_speed import seconds

pytestmark = [pytest.mark.real, pytest.mark.timeout(3600)]

NAME = "smollm2-135m-instruct-q4_1"
TOKENS, LAYERS = 20_000, (3, 6, 12)
TARGET = "Swahili"


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return loading.load(catalog.locate(NAME), device="cpu")


def test_c_of_all_layers_against_a_bare_forward_pass(loaded: LoadedModel) -> None:
    layers, (_, mlp_width) = loaded.architecture.layers, loaded.architecture.widths
    one = Pass(loaded, range(layers), Extent(TOKENS), tokens_per_batch(loaded.device))
    ours = seconds(lambda: one.run(corpora.builtin().documents))
    texts = [loaded.tokenizer(text)["input_ids"] for text in islice(corpora.builtin().documents(), 64)]
    ids, mask = pad(texts, loaded.device)
    keys = torch.ones(2048, mlp_width, dtype=torch.float64)
    with torch.inference_mode():
        forward = seconds(lambda: loaded.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False))
    product = seconds(lambda: torch.mm(keys.T, keys))
    bare = TOKENS * (forward / ids.numel() + layers * product / len(keys) / 2)
    print(
        f"\nC of {layers} layers over {TOKENS:,} tokens: {ours:.0f} s; {ours / bare:.2f} x a bare forward pass and "
        f"half a float64 product a layer (aim <= 1.3)"
    )


def test_an_edit(loaded: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> None:
    store = Store(tmp_path_factory.mktemp("real"))
    result = pipeline.run(Request(NAME, REAL_NAME, tokens=TOKENS, layers=LAYERS), store, device="cpu")
    for layer in LAYERS:
        bench = Simulator(result, store, lambda: loaded)
        request = bench.request(1, TARGET, layer)
        _ = bench.whitener(layer), bench.sensitivity(layer), bench.sentences
        with torch.inference_mode():
            bare = seconds(lambda bench=bench: [read(loaded, batch) for _, batch in batched(bench.sentences)])
        search = seconds(lambda bench=bench, request=request: bench.value(request))
        forecast = seconds(lambda bench=bench, request=request: bench.forecast(request, flips=False))
        measure = seconds(lambda bench=bench, request=request: bench.perform(request))
        print(
            f"\nlayer {layer}, {len(bench.facts)} facts: search {search:.1f} s (aim <= 10), forecast {forecast:.2f} s "
            f"(aim <= 0.2), perform and measure {measure:.1f} s (aim <= 3), "
            f"{measure / bare:.1f} x one bare pass over the facts"
        )
