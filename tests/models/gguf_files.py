"""A small Llama as a GGUF file, and as a folder of the numbers that the file's quantised weights stand for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from tests import tiny

SIZES: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES |= {"num_key_value_heads": 1, "max_position_embeddings": tiny.CONTEXT, "vocab_size": tiny.VOCABULARY}
HEADS = {"q_proj": 2, "k_proj": 1}  # llama.cpp lays their rows out in another order
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "model.layers": "blk"}
NAMES |= {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v"}
NAMES |= {"self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up"}
NAMES |= {"mlp.down_proj": "ffn_down", "post_attention_layernorm": "ffn_norm", "input_layernorm": "attn_norm"}
CONTROL, NORMAL = 3, 1  # token types


def write(folder: Path, file: Path, *, kind: Kind = Kind.Q8_0, architecture: str = "llama", **fields: str) -> None:
    """Write both; `fields` are texts of the header that replace the usual ones."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(tie_word_embeddings=True, **SIZES))
    tokenizer = AutoTokenizer.from_pretrained(tiny.TOKENIZER_FOLDER, local_files_only=True)
    tokenizer.backend_tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)  # nobody reads the flag in the file
    out = gguf.GGUFWriter(file, architecture)
    _describe(out, tokenizer, fields)
    state = model.state_dict()
    for name, weights in state.items():
        if name == "lm_head.weight":  # tied
            continue
        values = weights.numpy()
        if values.ndim == 1:
            out.add_tensor(_name_of(name), values)
            continue
        packed = gguf.quantize(_rows_of_llama_cpp(name, values), kind)
        out.add_tensor(_name_of(name), packed, raw_dtype=kind)
        weights.copy_(torch.from_numpy(gguf.dequantize(gguf.quantize(values, kind), kind).reshape(values.shape)))
    model.load_state_dict(state)
    for write_part in (out.write_header_to_file, out.write_kv_data_to_file, out.write_tensors_to_file, out.close):
        write_part()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _describe(out: gguf.GGUFWriter, tokenizer: Any, fields: dict[str, str]) -> None:
    out.add_context_length(SIZES["max_position_embeddings"])
    out.add_embedding_length(SIZES["hidden_size"])
    out.add_feed_forward_length(SIZES["intermediate_size"])
    out.add_block_count(SIZES["num_hidden_layers"])
    out.add_head_count(SIZES["num_attention_heads"])
    out.add_head_count_kv(SIZES["num_key_value_heads"])
    out.add_layer_norm_rms_eps(1e-6)
    out.add_rope_freq_base(10_000.0)
    out.add_vocab_size(SIZES["vocab_size"])
    out.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    out.add_tokenizer_model(fields.get("tokenizer", "gpt2"))
    out.add_tokenizer_pre("default")
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    out.add_token_list([token for token, _ in vocabulary])
    out.add_token_types([CONTROL if token in tokenizer.all_special_tokens else NORMAL for token, _ in vocabulary])
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    out.add_token_merges([" ".join(pair) for pair in model["merges"]])
    out.add_bos_token_id(tokenizer.bos_token_id)
    out.add_eos_token_id(tokenizer.eos_token_id)
    out.add_add_bos_token(value=False)


def _name_of(name: str) -> str:
    for theirs, ours in NAMES.items():
        name = name.replace(theirs, ours)
    return name


def _rows_of_llama_cpp(name: str, values: np.ndarray) -> np.ndarray:
    heads = next((count for part, count in HEADS.items() if part in name), None)
    if heads is None:
        return values
    halves = values.reshape(heads, 2, len(values) // heads // 2, -1)
    return halves.swapaxes(1, 2).reshape(values.shape)
