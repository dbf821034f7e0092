"""How fast the library is, as ratios against a named baseline in the same run. Prints; asserts nothing about time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config

from kis_core import corpora, facts
from kis_core.covariance.passes import second_moments
from kis_core.covariance.reading import Extent, groups
from kis_core.covariance.whitener import Whitener
from kis_core.keys import Prompt, fact_keys, tokenize_prompts
from kis_core.models import catalog, loading
from kis_core.models.architecture import recognise
from kis_core.models.batching import TOKENS_PER_BATCH, batches, pad
from kis_core.models.loaded import LoadedModel
from kis_core.superposition.matrix import superposition

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

ROUNDS = 3
PAIR_SAMPLE = 64  # prompts timed one by one; the pair-by-pair time is this mean times the number of entries
DEMO_TOKENS = 50_000
GPT2_TOKENS = 4_000  # two batches; a pass over a real corpus has hundreds, and pays the fixed costs once


def demo() -> LoadedModel:
    return loading.load(catalog.locate(catalog.DEFAULT), device="cpu")


def gpt2_small_shaped() -> LoadedModel:
    """Random weights in GPT2-Small's shape, but for the demo tokenizer's vocabulary."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=3000, bos_token_id=0, eos_token_id=0))
    model.eval().requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(catalog.locate(catalog.DEFAULT), local_files_only=True)
    return LoadedModel(model, tokenizer, recognise(model), torch.device("cpu"))


MODELS: dict[str, tuple[Callable[[], LoadedModel], int]] = {
    "default demo model": (demo, DEMO_TOKENS),
    "GPT2-Small shape": (gpt2_small_shaped, GPT2_TOKENS),
}


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def paired(ours: Callable[[], object], baseline: Callable[[], object]) -> tuple[float, float, float]:
    """Medians of both, and of their ratio round by round, so that a drift of the machine cancels."""
    ours(), baseline()
    rounds = [(seconds(ours), seconds(baseline)) for _ in range(ROUNDS)]
    return (
        statistics.median(a for a, _ in rounds),
        statistics.median(b for _, b in rounds),
        statistics.median(a / b for a, b in rounds),
    )


@torch.inference_mode()
def bare_forward(loaded: LoadedModel, sequences: list[list[int]]) -> None:
    for batch in batches([len(s) for s in sequences], tokens_per_batch=TOKENS_PER_BATCH):
        ids, mask = pad([sequences[k] for k in batch], loaded.device)
        loaded.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)


def prompts_of(loaded: LoadedModel) -> list[Prompt]:
    return tokenize_prompts(loaded.tokenizer, facts.builtin().facts, context=loaded.context)


@pytest.mark.parametrize("name", MODELS)
def test_keys_of_all_layers_against_one_bare_forward_pass(name: str) -> None:
    loaded = MODELS[name][0]()
    prompts = prompts_of(loaded)
    ours, bare, ratio = paired(
        lambda: fact_keys(loaded, prompts), lambda: bare_forward(loaded, [p.tokens for p in prompts])
    )
    print(f"\n{name}: keys of 128 facts, {loaded.architecture.layers} layers: {ours * 1e3:.1f} ms; "
          f"bare forward pass {bare * 1e3:.1f} ms; ratio {ratio:.2f} (aim <= 1.3)")  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_p_of_all_layers_against_a_forward_pass_per_entry(name: str) -> None:
    loaded = MODELS[name][0]()
    prompts = prompts_of(loaded)
    layers, d_m = loaded.architecture.layers, loaded.architecture.widths[1]
    rng = np.random.default_rng(0)
    factor = np.tril(rng.normal(size=(d_m, d_m))) / d_m + np.eye(d_m)  # any factor costs the same to apply
    whitener = Whitener(factor, rank=d_m, condition_number=1.0, ridge=0.0)

    def ours() -> None:
        keys = fact_keys(loaded, prompts)
        for layer in range(layers):
            superposition(whitener.whiten(keys[layer]))

    def one_by_one() -> None:
        for prompt in prompts[:PAIR_SAMPLE]:
            bare_forward(loaded, [prompt.tokens])

    mine, sample, _ = paired(ours, one_by_one)
    entries = len(prompts) ** 2 * layers
    pairwise = sample / PAIR_SAMPLE * entries
    print(f"\n{name}: P of {layers} layers {mine:.2f} s; pair by pair {pairwise:,.0f} s (one forward pass for each of "
          f"{entries:,} entries, from {PAIR_SAMPLE} timed); ratio {pairwise / mine:,.0f} (aim >= 2,000)")  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_second_moments_against_forward_pass_and_one_product(name: str) -> None:
    make, tokens = MODELS[name]
    loaded = make()
    documents = corpora.builtin().texts
    read = [group.rows for group in groups(loaded.tokenizer, documents, Extent(tokens), context=loaded.context)]
    layers, d_m = loaded.architecture.layers, loaded.architecture.widths[1]

    def baseline(dtype: torch.dtype) -> Callable[[], None]:
        def work() -> None:
            for group in read:
                for batch in batches([len(ids) for ids in group], tokens_per_batch=TOKENS_PER_BATCH):
                    rows = [group[k] for k in batch]
                    bare_forward(loaded, rows)
                    keys = torch.ones(len(rows) * max(map(len, rows)), d_m, dtype=dtype)
                    for _ in range(layers):
                        torch.mm(keys.T, keys)

        return work

    def ours() -> None:
        second_moments(loaded, documents, tokens=tokens)

    for dtype in (torch.float64, torch.float32):
        mine, bare, ratio = paired(ours, baseline(dtype))
        print(f"\n{name}: C of {layers} layers over {tokens:,} tokens {mine:.2f} s; bare forward pass and one {dtype} "
              f"product a layer and batch {bare:.2f} s; ratio {ratio:.2f} (aim <= 1.3)")  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_all_layers_in_one_pass_against_one_layer_a_pass(name: str) -> None:
    make, tokens = MODELS[name]
    loaded, documents = make(), corpora.builtin().texts
    layers = loaded.architecture.layers

    def each() -> None:
        for layer in range(layers):
            second_moments(loaded, documents, tokens=tokens, layers=[layer])

    theirs, mine, ratio = paired(each, lambda: second_moments(loaded, documents, tokens=tokens))
    print(f"\n{name}: C of {layers} layers, {tokens:,} tokens: one pass {mine:.2f} s; one layer a pass, stopped after "
          f"its layer, {theirs:.2f} s; ratio {ratio:.1f} (aim >= {layers / 2:.0f})")  # fmt: skip
