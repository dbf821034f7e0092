"""Every architecture: where its keys are, that padding is nothing, and who does something else is found out.

The keys are computed once more by hand, from the weights and from what goes into the MLP.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, relu, silu
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    HyperCLOVAXConfig,
    LlamaConfig,
    MambaConfig,
    MixtralConfig,
    Olmo2Config,
    OpenAIGPTConfig,
    PretrainedConfig,
)
from transformers.pytorch_utils import Conv1D

from kis_core.covariance.passes import second_moments
from kis_core.facts import Fact
from kis_core.keys import fact_keys, tokenize_prompts
from kis_core.models.architecture import LAYOUTS, UnsupportedArchitecture, recognise
from kis_core.models.checks import adds_plainly, check_logits
from kis_core.models.describe import TYPED, described
from kis_core.models.files import ModelFiles
from kis_core.models.hooks import hooked
from kis_core.models.loaded import LoadedModel
from kis_core.models.loading import load
from kis_core.scoring.log_odds import tokenize_sentences
from kis_core.spillover.sensitivity import sensitivity
from tests import tiny

FLOAT32 = 1e-5  # relative to the largest entry: two float32 passes whose sums run in another order; seen 6e-7
BY_HAND = 1e-5  # the same against one MLP in float64: a few roundings of 6e-8 each; seen 5e-7
STEP = 3e-3
DIFFERENCE = 2e-4
"""Of finite differences with that step: logits are float32 whatever the model runs in, which leaves 1e-6 / step of
noise, and third derivatives step² / 6; relative to the largest gradient; seen 5e-5."""
LIVELY = 8  # fresh weights of size 0.02 leave a model nearly linear

FACTS = (
    Fact("Malta", "The capital of {} is", "Valletta"),
    Fact("Vladimir Mayakovsky", "{} was a native speaker of", "Russian"),
    Fact("Zürich", "Very many people who have ever been there say that they love {}", "dearly"),
    Fact("Oslo", "{}", "Norway"),
)
DOCUMENTS = (
    "The river Rhine flows through several towns.",
    "A clock.",
    "Paris was visited by many people in those years, and so was London, long before anybody had heard of it.",
)


def tanh_gelu(x: Tensor) -> Tensor:
    return gelu(x, approximate="tanh")


def plain(inner: str, activation: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Tensor], Tensor]:
    """The key act(W x + b)."""
    return lambda mlp, x: activation(linear(mlp.get_submodule(inner), x))


def gated(activation: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Tensor], Tensor]:
    """The key act(W_gate x) * (W_up x)."""
    return lambda mlp, x: activation(linear(mlp.gate_proj, x)) * linear(mlp.up_proj, x)


def gated_as_one(mlp: nn.Module, x: Tensor) -> Tensor:
    """The same with SiLU, where one matrix holds both, the gate on top."""
    gate, up = linear(mlp.get_submodule("gate_up_proj"), x).chunk(2, dim=-1)
    return silu(gate) * up


def linear(module: Any, x: Tensor) -> Tensor:
    """W x + b in float64."""
    weight = module.weight.double() if isinstance(module, Conv1D) else module.weight.double().T
    bias = getattr(module, "bias", None)
    return x.double() @ weight + (0 if bias is None else bias.double())


# per architecture: where the MLP is (in a block), its first module, and its key from what goes into it
MLP: dict[str, tuple[str, str, Callable[[nn.Module, Tensor], Tensor]]] = {
    "GPT-2": ("mlp", "c_fc", plain("c_fc", tanh_gelu)),
    "GPT-J": ("mlp", "fc_in", plain("fc_in", tanh_gelu)),
    "GPT-NeoX": ("mlp", "dense_h_to_4h", plain("dense_h_to_4h", gelu)),
    "Phi": ("mlp", "fc1", plain("fc1", tanh_gelu)),
    "Phi-3": ("mlp", "gate_up_proj", gated_as_one),
}
MLP |= dict.fromkeys(("Llama", "Mistral", "Qwen2", "Qwen3", "Granite", "Cohere"), ("mlp", "gate_proj", gated(silu)))
MLP |= dict.fromkeys(("Gemma 2", "Gemma 3", "Gemma 3 with images"), ("mlp", "gate_proj", gated(tanh_gelu)))
MLP |= dict.fromkeys(("OPT", "OPT, norm after"), ("", "fc1", plain("fc1", relu)))
AS_LLAMA = ("Mistral", "Qwen2", "Qwen3", "Gemma 2", "Gemma 3", "Phi-3", "Granite", "Cohere")
LAYOUT = dict.fromkeys(AS_LLAMA, "Llama") | {"OPT, norm after": "OPT"}  # those that share the layout of another one
NOT_PLAIN = ("Gemma 2", "Gemma 3", "Gemma 3 with images", "Granite", "OPT, norm after")
PATHS = {
    "GPT-2": "transformer.h.1.mlp.c_proj",
    "GPT-J": "transformer.h.1.mlp.fc_out",
    "GPT-NeoX": "gpt_neox.layers.1.mlp.dense_4h_to_h",
    "Llama": "model.layers.1.mlp.down_proj",
    "Gemma 3 with images": "model.language_model.layers.1.mlp.down_proj",
    "OPT": "model.decoder.layers.1.fc2",
    "Phi": "model.layers.1.mlp.fc2",
}


def lively(architecture: str) -> LoadedModel:
    """A random model far from linear, with biases and norms that are not as fresh ones."""
    made = tiny.model(architecture, seed=3)
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in made.model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(LIVELY)
            else:
                parameter.add_(torch.randn_like(parameter) / 4)
    return made


@pytest.fixture(params=tiny.EVERY_ARCHITECTURE, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def loaded(name: str) -> LoadedModel:
    """A lively model of each architecture; no test of this class may change it."""
    return lively(name)


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Within a share of the largest expected entry."""
    assert actual.shape == expected.shape
    assert np.abs(expected).max() > 1e-2, "a test of nothing"
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def run_alone(loaded: LoadedModel, text: str) -> None:
    with torch.no_grad():
        loaded.model(torch.tensor([loaded.tokenizer(text)["input_ids"]]), use_cache=False)


class TestEveryArchitecture:
    def test_recognised_by_its_modules_and_sized_by_its_configuration_alone(self, name: str, tmp_path: Path) -> None:
        config = tiny.every_config()[name]
        config.save_pretrained(tmp_path)
        model, entry = tiny.on_meta(config), described(str(tmp_path))
        assert (entry.parameters, entry.layers, entry.width, entry.mlp_width) == (model.num_parameters(), 3, 24, 40)
        assert (entry.name, entry.source, entry.family) == (str(tmp_path), str(tmp_path), TYPED)
        assert (entry.context, entry.files, entry.download_bytes) == (tiny.CONTEXT, ModelFiles(tmp_path), 0)
        model.config.model_type = "a name that says nothing"
        actual = recognise(model)
        assert (actual.name, actual.layers, actual.widths) == (LAYOUT.get(name, name), 3, (24, 40))
        assert len(set(actual.down_projections)) == len(set(actual.blocks)) == len(set(actual.attention_outputs)) == 3
        assert actual.module_path(1) == PATHS[actual.name]
        for layer, module in enumerate(actual.down_projections):
            assert model.get_submodule(actual.module_path(layer)) is module

    def test_the_key_is_what_goes_into_the_down_projection(self, name: str, loaded: LoadedModel) -> None:
        """In a padded batch, against texts that run alone."""
        where, first, formula = MLP[name]
        prompts = tokenize_prompts(loaded.tokenizer, FACTS, context=loaded.context)
        assert len({len(prompt.tokens) for prompt in prompts}) > 1
        keys = fact_keys(loaded, prompts)
        for layer, block in enumerate(loaded.architecture.blocks):
            mlp, seen, outputs = block.get_submodule(where), [], []
            projection = loaded.architecture.down_projections[layer]
            handles = (
                mlp.get_submodule(first).register_forward_pre_hook(lambda _, i, seen=seen: seen.append(i[0])),
                projection.register_forward_hook(lambda _, __, output, outputs=outputs: outputs.append(output)),
            )
            for fact in FACTS:
                run_alone(loaded, fact.text)
            for handle in handles:
                handle.remove()
            inputs, outputs = (
                torch.stack([x.reshape(-1, 24)[p.key_index] for x, p in zip(each, prompts, strict=True)])
                for each in (seen, outputs)
            )
            assert_close(keys[layer], formula(mlp, inputs).numpy(), BY_HAND)
            weight, bias = loaded.architecture.weight(layer), getattr(projection, "bias", None)
            product = keys[layer].astype(np.float64) @ weight.double().numpy().T
            assert_close(outputs.numpy(), product + (0 if bias is None else bias.double().numpy()), BY_HAND)

    def test_is_told_from_one_that_does_something_else(self, name: str, loaded: LoadedModel) -> None:
        check_logits(loaded)
        assert adds_plainly(loaded) == (name not in NOT_PLAIN)
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in loaded.model.modules())

    def test_second_moments_as_one_document_at_a_time(self, loaded: LoadedModel) -> None:
        keys: list[list[np.ndarray]] = [[] for _ in range(3)]

        def keep(layer: int, key: Tensor, _: Tensor) -> None:
            keys[layer].append(key[0].double().numpy())

        with hooked(loaded.architecture.down_projections, keep):
            for document in DOCUMENTS:
                run_alone(loaded, document)
        for moment, parts in zip(second_moments(loaded, DOCUMENTS, tokens=10_000), keys, strict=True):
            every = np.concatenate(parts)
            assert moment.tokens == len(every)
            assert_close(moment.matrix, every.T @ every / len(every), FLOAT32)

    @pytest.mark.parametrize("name", tiny.in_full(tiny.EVERY_ARCHITECTURE, ("Gemma 2", "OPT, norm after")))
    def test_gradients_of_log_odds_equal_finite_differences(self, name: str) -> None:
        loaded = lively(name)
        loaded.model.double()
        sentences = tokenize_sentences(loaded.tokenizer, FACTS[1:2], context=loaded.context)
        actual = sensitivity(loaded, sentences, 1)
        assert np.isfinite(actual.log_odds).all()
        direction = torch.randn(actual.gradients.shape, generator=torch.Generator().manual_seed(0)).double()

        def log_odds(step: float) -> float:
            with hooked([loaded.architecture.down_projections[1]], lambda _, __, output: output + step * direction):
                return float(sensitivity(loaded, sentences, 0).log_odds[0])

        slope = (log_odds(STEP) - log_odds(-STEP)) / (2 * STEP)
        gradients = actual.gradients.astype(np.float64)
        scale = np.abs(gradients).max() * np.sqrt(gradients.size)  # of what such a sum is made of
        assert scale > 1e-3, "a test of nothing"
        assert (gradients * direction.numpy()).sum() == pytest.approx(slope, rel=0, abs=DIFFERENCE * scale)


SIZES = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2}
HEADS = SIZES | {"num_attention_heads": 2, "intermediate_size": 20, "num_key_value_heads": 1}
UNSUPPORTED = (
    BloomConfig(vocab_size=50, hidden_size=16, n_layer=2, n_head=2),
    MambaConfig(**SIZES),
    MixtralConfig(num_local_experts=2, **HEADS),
    LlamaConfig(vocab_size=50, hidden_size=32, num_hidden_layers=0),
)


class TestRecognise:
    @pytest.mark.parametrize("config", UNSUPPORTED, ids=lambda config: config.model_type)
    def test_an_unsupported_one_is_refused_in_full(self, config: PretrainedConfig) -> None:
        model = tiny.on_meta(config)
        with pytest.raises(UnsupportedArchitecture) as caught:
            recognise(model)
        named = (f"'{config.model_type}'", type(model).__name__, *(layout.name for layout in LAYOUTS))
        assert all(wanted in str(caught.value) for wanted in (*named, "one MLP a layer"))

    def test_one_layer_with_another_projection_is_enough_to_refuse(self) -> None:
        for other in (nn.Identity(), nn.Linear(41, 24), nn.Embedding(24, 40)):
            model = tiny.on_meta(tiny.configs()["Llama"])
            model.model.layers[1].mlp.down_proj = other
            with pytest.raises(UnsupportedArchitecture, match="LlamaForCausalLM"):
                recognise(model)


def of(config: PretrainedConfig) -> LoadedModel:
    """A random model of any configuration."""
    torch.manual_seed(5)
    made = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    return LoadedModel(made, tiny.model("Llama").tokenizer, recognise(made), torch.device("cpu"))


def small(kind: type[PretrainedConfig], **more: Any) -> PretrainedConfig:
    sizes = {"vocab_size": 300, "hidden_size": 24, "num_hidden_layers": 3, "intermediate_size": 40}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64, "pad_token_id": 0}
    return kind(**sizes | heads | more)


@pytest.mark.parametrize("name", tiny.in_full(tiny.EVERY_ARCHITECTURE, ("Gemma 2",)))
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_architecture_passes_in_half_precision(name: str, dtype: str) -> None:
    loaded = lively(name)
    loaded.model.to(getattr(torch, dtype))
    check_logits(replace(loaded, dtype=dtype))
    assert adds_plainly(replace(loaded, dtype=dtype)) == (name not in NOT_PLAIN)


class TestLogits:
    def test_a_model_that_means_something_else_by_a_known_field_is_refused(self, tmp_path: Path) -> None:
        """HyperCLOVAX multiplies by what Granite divides by."""
        made = of(small(HyperCLOVAXConfig, logits_scaling=8, vocab_size=3000))
        assert made.architecture.logit_scale == 1 / 8
        made.model.save_pretrained(tmp_path)
        made.tokenizer.save_pretrained(tmp_path)
        with pytest.raises(UnsupportedArchitecture, match=r"its logits are not .* differ by up to \d"):
            load(ModelFiles(tmp_path), device="cpu")
        check_logits(of(small(HyperCLOVAXConfig, logits_scaling=1)))

    @pytest.mark.parametrize("change", [lambda logits: logits * 1.5, lambda logits: logits[..., :-7]])
    def test_whatever_a_forward_pass_does_to_logits_is_found(self, change: Callable[..., torch.Tensor]) -> None:
        loaded = lively("Llama")
        forward = loaded.model.forward

        def changed(*args: Any, **named: Any) -> Any:
            output = forward(*args, **named)
            output.logits = change(output.logits)
            return output

        loaded.model.forward = changed
        with pytest.raises(UnsupportedArchitecture, match="differ by up to"):
            check_logits(loaded)

    def test_tokens_that_see_the_padding_are_found(self) -> None:
        """As in a model that is not causal: what stands behind a token changes it."""
        loaded = lively("Llama")
        attention = loaded.model.model.layers[1].self_attn
        forward = attention.forward

        def both_ways(*args: Any, **named: Any) -> Any:
            output, *rest = forward(*args, **named)
            return output + output.mean(dim=1, keepdim=True), *rest

        attention.forward = both_ways
        with pytest.raises(UnsupportedArchitecture, match="it gives with other texts beside it"):
            check_logits(loaded)

    def test_logits_that_are_not_numbers_are_reported_with_their_text_not_here(self) -> None:
        loaded = lively("GPT-2")
        loaded.model.transformer.ln_f.weight[0] = math.nan
        check_logits(loaded)


class TestAddsPlainly:
    @pytest.mark.parametrize(
        "config",
        [small(Olmo2Config), OpenAIGPTConfig(vocab_size=300, n_positions=64, n_embd=24, n_layer=3, n_head=2)],
        ids=lambda config: config.model_type,
    )
    def test_norms_behind_the_mlp_are_found_whatever_they_are_called(self, config: PretrainedConfig) -> None:
        assert not adds_plainly(of(config))

    def test_one_layer_that_scales_is_enough_and_only_if_it_is_looked_at(self) -> None:
        loaded = lively("GPT-NeoX")
        mlp = loaded.model.gpt_neox.layers[1].mlp
        mlp.forward = lambda x, forward=mlp.forward: forward(x) / 2
        assert not adds_plainly(loaded)
        assert not adds_plainly(loaded, [1])
        assert adds_plainly(loaded, [0, 2])
