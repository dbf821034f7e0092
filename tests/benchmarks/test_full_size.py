"""C of every layer at real sizes: against one layer a pass, and, where there is a GPU, in tokens a second.

Prints; asserts nothing about time. The models have the shapes and context lengths of real ones and random weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPTJConfig, LlamaConfig, PretrainedConfig

from kis_core import corpora, machine
from kis_core.analysis import requirements
from kis_core.covariance.moment import SecondMomentSum
from kis_core.covariance.passes import Pass, tokens_per_batch
from kis_core.covariance.reading import Extent
from kis_core.covariance.whitener import Whitener
from kis_core.models import catalog
from kis_core.models.architecture import recognise
from kis_core.models.hooks import hooked
from kis_core.models.loaded import LoadedModel
from tests.benchmarks.test_speed import paired

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

COMMON = {"bos_token_id": 0, "eos_token_id": 0}
GPU_SECONDS = 60.0  # of each model, once it is warm
WORDS_A_DOCUMENT = 1500  # so that documents fill the context, as Wikipedia's longer ones do


@dataclass(frozen=True)
class Shape:
    """A real model's shape.

    Attributes:
        config: of it.
        dtype: it would run in.
    """

    config: Callable[[], PretrainedConfig]
    dtype: torch.dtype


SHAPES = {
    "GPT-2-XL shape": Shape(lambda: GPT2Config(n_embd=1600, n_layer=48, n_head=25, **COMMON), torch.float32),
    "GPT-J shape": Shape(lambda: GPTJConfig(tie_word_embeddings=False, **COMMON), torch.bfloat16),
    "Llama-3-8B shape": Shape(
        lambda: LlamaConfig(
            vocab_size=128_256, hidden_size=4096, intermediate_size=14_336, num_hidden_layers=32,
            num_attention_heads=32, num_key_value_heads=8, max_position_embeddings=8192, **COMMON,
        ),
        torch.bfloat16,
    ),
}  # fmt: skip


def made(shape: Shape) -> LoadedModel:
    torch.manual_seed(0)
    torch.set_default_dtype(shape.dtype)
    try:
        with torch.device("cuda"):
            model = AutoModelForCausalLM.from_config(shape.config()).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(catalog.locate(catalog.DEFAULT), local_files_only=True)
    return LoadedModel(model, tokenizer, recognise(model), torch.device("cuda:0"), str(shape.dtype).split(".")[1])


def long_documents() -> Iterator[str]:
    words = " ".join(corpora.builtin().documents()).split()
    while True:
        for begin in range(0, len(words), WORDS_A_DOCUMENT):
            yield " ".join(words[begin : begin + WORDS_A_DOCUMENT])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("name", SHAPES)
def test_real_shapes_on_a_gpu(name: str) -> None:
    loaded = made(SHAPES[name])
    layers, d_m = loaded.architecture.layers, loaded.architecture.widths[1]
    device = next(one for one in machine.devices() if one.name == "cuda:0")
    group = requirements.grouped(range(layers), d_m, requirements.budget(device, 0))[0]
    torch.cuda.reset_peak_memory_stats()
    began, seen = time.perf_counter(), [0, 0.0]

    class Enough(Exception):
        pass

    def report(_: str, done: int, total: int) -> None:
        torch.cuda.synchronize()
        now = time.perf_counter() - began
        if done and not seen[0]:
            seen[:] = [done, now]  # the first batch warms up
        if now > GPU_SECONDS:
            raise Enough(done, now)

    one = Pass(loaded, group, Extent(), tokens_per_batch(loaded.device))
    with pytest.raises(Enough) as ended:
        one.run(long_documents, report=report)
    done, now = ended.value.args
    pace = (done - seen[0]) / (now - seen[1])
    print(f"\n{name} ({loaded.dtype}, {torch.cuda.get_device_name()}): {len(group)} of {layers} layers at once, "
          f"{pace:,.0f} tokens/s, peak {torch.cuda.max_memory_allocated() / 1e9:.1f} GB; 100,000 documents of 600 "
          f"tokens in {60e6 / pace / 3600 * -(-layers // len(group)):.1f} h")  # fmt: skip
    print(f"  against a bare forward pass and one float64 product a layer: {_against_bare(loaded, layers, d_m):.2f} x "
          f"(aim <= 1.2)")  # fmt: skip
    moment = next(iter(one.moments()))[1]
    began = time.perf_counter()
    Whitener.fit(moment.matrix)
    print(f"  factorising C of one layer (d_m = {d_m:,}) {time.perf_counter() - began:.1f} s")


@torch.inference_mode()
def _against_bare(loaded: LoadedModel, layers: int, d_m: int) -> float:
    """A few batches with the sums of eight layers, against the same batches without, and as many products."""
    summed = min(8, layers)
    ids = torch.zeros(tokens_per_batch(loaded.device) // 512, 512, dtype=torch.long, device=loaded.device)
    sums = [SecondMomentSum() for _ in range(summed)]
    keys = torch.ones(ids.numel(), d_m, dtype=torch.float64, device=loaded.device)

    def run() -> None:
        loaded.model.base_model(input_ids=ids, use_cache=False)

    def ours() -> None:
        with hooked(
            loaded.architecture.down_projections[:summed], lambda layer, key, _: sums[layer].add(key.flatten(0, 1))
        ):
            run()
        torch.cuda.synchronize()

    def bare() -> None:
        run()
        for _ in range(summed):
            torch.mm(keys.T, keys)
        torch.cuda.synchronize()

    return paired(ours, bare)[2]
