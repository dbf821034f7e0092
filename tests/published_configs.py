"""What the authors of each catalogued model publish as its configuration: the numbers that set its size."""

from __future__ import annotations

import transformers as them

LONG = 131_072


def _gpt2(width: int, layers: int, heads: int) -> them.GPT2Config:
    return them.GPT2Config(n_embd=width, n_layer=layers, n_head=heads)


def _pythia(width: int, layers: int, heads: int, vocabulary: int = 50_304) -> them.GPTNeoXConfig:
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
    return them.GPTNeoXConfig(vocab_size=vocabulary, num_attention_heads=heads, **sizes)


def _opt(width: int, layers: int, heads: int) -> them.OPTConfig:
    sizes = {"hidden_size": width, "word_embed_proj_dim": width, "ffn_dim": 4 * width, "num_hidden_layers": layers}
    return them.OPTConfig(num_attention_heads=heads, **sizes)


def _sizes(width: int, inner: int, layers: int, heads: int, groups: int, context: int) -> dict[str, int]:
    """Of architectures with names as Llama's; `groups` are the key-value heads."""
    widths = {"hidden_size": width, "intermediate_size": inner, "max_position_embeddings": context}
    return widths | {"num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": groups}


def _llama3(*sizes: int, tied: bool = False) -> them.LlamaConfig:
    return them.LlamaConfig(vocab_size=128_256, tie_word_embeddings=tied, **_sizes(*sizes))


def _smollm2(*sizes: int) -> them.LlamaConfig:
    return them.LlamaConfig(vocab_size=49_152, tie_word_embeddings=True, **_sizes(*sizes, 8192))


def _qwen2(*sizes: int, vocabulary: int = 151_936, tied: bool = True) -> them.Qwen2Config:
    return them.Qwen2Config(vocab_size=vocabulary, tie_word_embeddings=tied, **_sizes(*sizes))


def _qwen3(*sizes: int, tied: bool = True) -> them.Qwen3Config:
    return them.Qwen3Config(vocab_size=151_936, head_dim=128, tie_word_embeddings=tied, **_sizes(*sizes, 32_768))


def _gemma3(vocabulary: int, *sizes: int) -> them.Gemma3TextConfig:
    return them.Gemma3TextConfig(vocab_size=vocabulary, head_dim=256, **_sizes(*sizes))


_EYES = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
_EYES |= {"image_size": 896, "patch_size": 14, "vision_use_head": False}


# width, layers, heads, and what else the builders above take
_GPT2 = {"gpt2": (768, 12, 12), "gpt2-medium": (1024, 24, 16), "gpt2-large": (1280, 36, 20), "gpt2-xl": (1600, 48, 25)}
_PYTHIA = {"pythia-70m": (512, 6, 8), "pythia-160m": (768, 12, 12), "pythia-410m": (1024, 24, 16)}
_PYTHIA |= {"pythia-1b": (2048, 16, 8), "pythia-1.4b": (2048, 24, 16), "pythia-2.8b": (2560, 32, 32)}
_PYTHIA |= {"pythia-6.9b": (4096, 32, 32, 50_432), "pythia-12b": (5120, 36, 40, 50_688)}
_OPT = {"opt-125m": (768, 12, 12), "opt-1.3b": (2048, 24, 32), "opt-2.7b": (2560, 32, 32), "opt-6.7b": (4096, 32, 32)}
_SMOLLM2 = dict.fromkeys(("135m", "135m-instruct", "135m-instruct-q4_1"), (576, 1536, 30, 9, 3))
_SMOLLM2 |= dict.fromkeys(("360m", "360m-instruct"), (960, 2560, 32, 15, 5))
_SMOLLM2 |= dict.fromkeys(("1.7b", "1.7b-instruct"), (2048, 8192, 24, 32, 32))
_QWEN3 = {"qwen3-0.6b": (1024, 3072, 28, 16, 8), "qwen3-1.7b": (2048, 6144, 28, 16, 8)}
_QWEN3 |= {"qwen3-4b": (2560, 9728, 36, 32, 8), "qwen3-8b": (4096, 12_288, 36, 32, 8)}
_QWEN3 |= {"qwen3-14b": (5120, 17_408, 40, 40, 8)}


def published() -> dict[str, them.PretrainedConfig]:
    """By the catalogue's names."""
    return {
        **{name: _gpt2(*sizes) for name, sizes in _GPT2.items()},
        **{name: _pythia(*sizes) for name, sizes in _PYTHIA.items()},
        **{name: _opt(*sizes) for name, sizes in _OPT.items()},
        **{name: _qwen3(*sizes, tied=sizes[0] < 4000) for name, sizes in _QWEN3.items()},
        **{f"smollm2-{name}": _smollm2(*sizes) for name, sizes in _SMOLLM2.items()},
        **{f"gemma-3-{name}": _gemma3(262_144, 640, 2048, 18, 4, 1, 32_768) for name in ("270m", "270m-q4_k_m")},
        "gpt-j-6b": them.GPTJConfig(tie_word_embeddings=False),
        "llama-2-7b": them.LlamaConfig(**_sizes(4096, 11_008, 32, 32, 32, 4096)),
        "llama-2-13b": them.LlamaConfig(**_sizes(5120, 13_824, 40, 40, 40, 4096)),
        "llama-3-8b": _llama3(4096, 14_336, 32, 32, 8, 8192),
        "llama-3.1-8b": _llama3(4096, 14_336, 32, 32, 8, LONG),
        "llama-3.1-70b": _llama3(8192, 28_672, 80, 64, 8, LONG),
        "llama-3.2-1b": _llama3(2048, 8192, 16, 32, 8, LONG, tied=True),
        "llama-3.2-3b": _llama3(3072, 8192, 28, 24, 8, LONG, tied=True),
        "mistral-7b-v0.1": them.MistralConfig(vocab_size=32_000, **_sizes(4096, 14_336, 32, 32, 8, 32_768)),
        "mistral-7b-v0.3": them.MistralConfig(vocab_size=32_768, **_sizes(4096, 14_336, 32, 32, 8, 32_768)),
        "qwen2.5-0.5b": _qwen2(896, 4864, 24, 14, 2, 32_768),
        "qwen2.5-1.5b": _qwen2(1536, 8960, 28, 12, 2, LONG),
        "qwen2.5-3b": _qwen2(2048, 11_008, 36, 16, 2, 32_768),
        "qwen2.5-7b": _qwen2(3584, 18_944, 28, 28, 4, LONG, vocabulary=152_064, tied=False),
        "qwen2.5-14b": _qwen2(5120, 13_824, 48, 40, 8, LONG, vocabulary=152_064, tied=False),
        "gemma-2-2b": them.Gemma2Config(vocab_size=256_000, head_dim=256, **_sizes(2304, 9216, 26, 8, 4, 8192)),
        "gemma-2-9b": them.Gemma2Config(vocab_size=256_000, head_dim=256, **_sizes(3584, 14_336, 42, 16, 8, 8192)),
        "gemma-3-1b": _gemma3(262_144, 1152, 6912, 26, 4, 1, 32_768),
        "gemma-3-4b": them.Gemma3Config(
            text_config=_gemma3(262_208, 2560, 10_240, 34, 8, 4, LONG), vision_config=_EYES, mm_tokens_per_image=256
        ),
        "phi-1.5": them.PhiConfig(vocab_size=51_200, **_sizes(2048, 8192, 24, 32, 32, 2048)),
        "phi-2": them.PhiConfig(vocab_size=51_200, **_sizes(2560, 10_240, 32, 32, 32, 2048)),
        "phi-3.5-mini": them.Phi3Config(vocab_size=32_064, **_sizes(3072, 8192, 32, 32, 32, LONG)),
    }
