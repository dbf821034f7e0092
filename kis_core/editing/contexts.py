"""The contexts an edit is to hold in: the prompt as it is, and after random beginnings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from kis_core.editing.hyperparameters import Hyperparameters
from kis_core.facts import SLOT, Fact
from kis_core.models.tokens import beginning
from kis_core.scoring.answers import next_token_logits

if TYPE_CHECKING:
    from kis_core.models.loaded import LoadedModel

LIKELY = 5  # next tokens to choose among, as ROME's code does


def random_prefixes(loaded: LoadedModel, hyperparameters: Hyperparameters) -> list[str]:
    """Texts the model itself begins with, sampled among its `LIKELY` next tokens."""
    generator = torch.Generator().manual_seed(hyperparameters.seed)
    tokenizer = loaded.tokenizer
    first = next((token for token in (tokenizer.bos_token_id, tokenizer.eos_token_id) if token is not None), 0)
    start = beginning(tokenizer) or [first]
    texts = []
    for count, length in hyperparameters.prefixes:
        begun = [list(start) for _ in range(count)]
        for _ in range(min(length, loaded.context - len(start)) if count else 0):
            logits, tokens = next_token_logits(loaded, begun).topk(LIKELY)
            chosen = torch.multinomial(torch.softmax(logits, dim=-1), 1, generator=generator)
            for row, token in zip(begun, tokens.gather(1, chosen)[:, 0].tolist(), strict=True):
                row.append(int(token))
        texts += [tokenizer.decode(row[len(start) :], skip_special_tokens=True).strip() for row in begun]
    return texts


def contexts(fact: Fact, prefixes: list[str]) -> list[Fact]:
    """The fact in its own prompt first, then after each prefix, which ends as a sentence."""
    clean = [prefix.replace("{", "").replace("}", "").rstrip(". ") for prefix in prefixes]
    return [fact, *(replace(fact, prompt=f"{prefix}. {fact.prompt}") for prefix in clean if prefix)]


def about(fact: Fact) -> Fact:
    """The prompt "{subject} is a", where ROME keeps what the model says from drifting."""
    return replace(fact, prompt=f"{SLOT} is a")
