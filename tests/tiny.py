"""Tiny random models of every architecture, made on the spot."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kis_core.demo.family import FAMILY

if TYPE_CHECKING:  # collecting tests, and the process that hands them out, take no second of imports for it
    from transformers import PretrainedConfig, PreTrainedModel

    from kis_core.models.loaded import LoadedModel

VOCABULARY = 3000  # the demo tokenizer's
CONTEXT = 64
WINDOW = 4  # tokens a sliding layer looks back: fewer than most texts have
TOKENIZER_FOLDER = FAMILY[0].folder


def configs(vocabulary: int = VOCABULARY) -> dict[str, PretrainedConfig]:
    """A small configuration of the four architectures of the paper; every width differs from every other."""
    from transformers import GPT2Config, GPTJConfig, GPTNeoXConfig, LlamaConfig

    early = _special(vocabulary) | {"n_positions": CONTEXT, "n_embd": 24, "n_layer": 3, "n_head": 2, "n_inner": 40}
    late = _late(vocabulary)
    return {
        "GPT-2": GPT2Config(**early),
        "GPT-J": GPTJConfig(rotary_dim=4, tie_word_embeddings=False, **early),
        "GPT-NeoX": GPTNeoXConfig(**late),
        "Llama": LlamaConfig(num_key_value_heads=1, **late),
    }


def every_config(vocabulary: int = VOCABULARY) -> dict[str, PretrainedConfig]:
    """Those, and one of every other architecture that is supported."""
    import transformers as them  # its classes are loaded as they are named

    late = _late(vocabulary) | {"pad_token_id": 0}
    grouped = late | {"num_key_value_heads": 1}
    wide = grouped | {"head_dim": 14}
    gemma = wide | {
        "query_pre_attn_scalar": 14,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    }
    opt = {name: value for name, value in late.items() if name != "intermediate_size"} | {"ffn_dim": 40}
    return configs(vocabulary) | {
        "Mistral": them.MistralConfig(sliding_window=WINDOW, **grouped),
        "Qwen2": them.Qwen2Config(**grouped),
        "Qwen3": them.Qwen3Config(**wide),
        "Gemma 2": them.Gemma2Config(**gemma),
        "Gemma 3": them.Gemma3TextConfig(**gemma),
        "Gemma 3 with images": them.Gemma3Config(
            text_config=them.Gemma3TextConfig(**gemma), tie_word_embeddings=True, **_images()
        ),
        "Granite": them.GraniteConfig(logits_scaling=8, residual_multiplier=0.3, embedding_multiplier=5, **grouped),
        "Cohere": them.CohereConfig(logit_scale=0.1, **grouped),
        "OPT": them.OPTConfig(word_embed_proj_dim=24, **opt),
        "OPT, norm after": them.OPTConfig(word_embed_proj_dim=20, do_layer_norm_before=False, **opt),  # as opt-350m
        "Phi": them.PhiConfig(**late),
        "Phi-3": them.Phi3Config(**grouped),
    }


def _special(vocabulary: int) -> dict[str, Any]:
    return {"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 0}


def _late(vocabulary: int) -> dict[str, Any]:
    widths = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 40}
    return _special(vocabulary) | {"max_position_embeddings": CONTEXT} | widths


def _images() -> dict[str, Any]:
    widths = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}
    return {"vision_config": widths | {"image_size": 8, "patch_size": 4}, "mm_tokens_per_image": 4}


ARCHITECTURES = ("GPT-2", "GPT-J", "GPT-NeoX", "Llama")
_LATER = ("Mistral", "Qwen2", "Qwen3", "Gemma 2", "Gemma 3", "Gemma 3 with images", "Granite", "Cohere")
EVERY_ARCHITECTURE = (*ARCHITECTURES, *_LATER, "OPT", "OPT, norm after", "Phi", "Phi-3")
"""The names of `configs` and `every_config`, as a test compares."""


def in_full(values: Iterable[Any], quick: tuple[str, ...] = ("GPT-2", "Llama")) -> list[Any]:
    """These as parameters of a test; those that begin with no quick name are left to `make stress`."""
    every = [value if isinstance(value, tuple) else (value,) for value in values]
    return [pytest.param(*value, marks=[] if value[0] in quick else pytest.mark.stress) for value in every]


def model(architecture: str, *, seed: int = 0, vocabulary: int = VOCABULARY) -> LoadedModel:
    """A random model of that architecture in memory, with the demo tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from kis_core.models.architecture import recognise
    from kis_core.models.loaded import LoadedModel

    torch.manual_seed(seed)
    made = AutoModelForCausalLM.from_config(every_config(vocabulary)[architecture]).eval().requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER_FOLDER, local_files_only=True)
    return LoadedModel(made, tokenizer, recognise(made), torch.device("cpu"))


def on_meta(config: PretrainedConfig) -> PreTrainedModel:
    """A model of that configuration: shapes alone, without memory."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def save(architecture: str, folder: Path, *, seed: int = 0) -> Path:
    """The same as a transformers folder on disk."""
    made = model(architecture, seed=seed)
    made.model.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    return folder
