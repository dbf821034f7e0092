"""Tiny random models of the four architectures, made on the spot."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
)

from kis_core.demo.family import FAMILY
from kis_core.models.architecture import recognise
from kis_core.models.loading import LoadedModel

VOCABULARY = 3000  # the demo tokenizer's
CONTEXT = 64
TOKENIZER_FOLDER = FAMILY[0].folder


def configs(vocabulary: int = VOCABULARY) -> dict[str, PretrainedConfig]:
    """A small configuration of each architecture; every width differs from every other."""
    common = {"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 0}
    early = common | {"n_positions": CONTEXT, "n_embd": 24, "n_layer": 3, "n_head": 2, "n_inner": 40}
    late = common | {
        "max_position_embeddings": CONTEXT,
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 40,
    }
    return {
        "GPT-2": GPT2Config(**early),
        "GPT-J": GPTJConfig(rotary_dim=4, tie_word_embeddings=False, **early),
        "GPT-NeoX": GPTNeoXConfig(**late),
        "Llama": LlamaConfig(num_key_value_heads=1, **late),
    }


ARCHITECTURES = tuple(configs())


def model(architecture: str, *, seed: int = 0, vocabulary: int = VOCABULARY) -> LoadedModel:
    """A random model of that architecture in memory, with the demo tokenizer."""
    torch.manual_seed(seed)
    made = AutoModelForCausalLM.from_config(configs(vocabulary)[architecture]).eval().requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER_FOLDER, local_files_only=True)
    return LoadedModel(made, tokenizer, recognise(made), torch.device("cpu"))


def on_meta(config: PretrainedConfig) -> PreTrainedModel:
    """A model of that configuration: shapes alone, without memory."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def save(architecture: str, folder: Path, *, seed: int = 0) -> Path:
    """The same as a transformers folder on disk."""
    made = model(architecture, seed=seed)
    made.model.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    return folder
