"""What is taken for granted of an architecture is tried on each model: whoever does something else is found out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    HyperCLOVAXConfig,
    Olmo2Config,
    OpenAIGPTConfig,
    PretrainedConfig,
)

from kis_core.models.architecture import UnsupportedArchitecture, recognise
from kis_core.models.checks import adds_plainly, check_logits
from kis_core.models.files import ModelFiles
from kis_core.models.loaded import LoadedModel
from kis_core.models.loading import load
from tests import tiny
from tests.models.test_architectures import NOT_PLAIN, lively

DTYPES = ("float32", "bfloat16", "float16")


def of(config: PretrainedConfig) -> LoadedModel:
    """A random model of any configuration."""
    torch.manual_seed(5)
    made = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(tiny.TOKENIZER_FOLDER, local_files_only=True)
    return LoadedModel(made, tokenizer, recognise(made), torch.device("cpu"))


def small(kind: type[PretrainedConfig], **more: Any) -> PretrainedConfig:
    sizes = {"vocab_size": 300, "hidden_size": 24, "num_hidden_layers": 3, "intermediate_size": 40}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64, "pad_token_id": 0}
    return kind(**sizes | heads | more)


@pytest.mark.parametrize("name", tiny.in_full(tiny.EVERY_ARCHITECTURE, ("Gemma 2",)))
@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_every_architecture_passes_in_half_precision(name: str, dtype: str) -> None:
    """And in float32, as tests/models/test_architectures.py has it."""
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
