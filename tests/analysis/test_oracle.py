"""An independent slow reference of the whole way, from prompts to P: float64, one text at a time, plain linear algebra.

It shares with the program the weights, the tokenizer and nothing else: the down-projection's input is recomputed from
the MLP's own submodules, the subject's last token is found by decoding prefixes, and C is inverted.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kis_core import corpora
from kis_core.analysis import pipeline
from kis_core.analysis.second_moments import second_moment
from kis_core.facts import Fact
from kis_core.store.store import Store
from tests import tiny

KEYS = 1e-5
"""Keys and cosines, relative to the largest: float32 forward passes, some fifty roundings of 6e-8 deep; seen 2e-6."""
SECOND_MOMENT = 1e-6
"""C, relative to its largest entry: the float64 mean of those keys, whose errors cancel in part; seen 2e-7."""
P = 1e-5
"""P and the whitened cosines, relative to the largest: errors of the keys, amplified by at most the root of C's
condition number, which the test asserts to be below 1e3; seen 9e-7."""
MAX_CONDITION = 1e3

LIVELY = 8
TOKENS = 1300  # more than 30 tokens a dimension of the 40-dimensional keys
MLP: dict[str, tuple[str, Callable[[Any, torch.Tensor], torch.Tensor]]] = {
    "GPT-2": ("transformer.h", lambda mlp, x: mlp.act(mlp.c_fc(x))),
    "GPT-J": ("transformer.h", lambda mlp, x: mlp.act(mlp.fc_in(x))),
    "GPT-NeoX": ("gpt_neox.layers", lambda mlp, x: mlp.act(mlp.dense_h_to_4h(x))),
    "Llama": ("model.layers", lambda mlp, x: mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x)),
}
FACTS = (
    Fact("Malta", "The capital of {} is", "Valletta"),
    Fact("Vladimir Mayakovsky", "{} was a native speaker of", "Russian"),
    Fact("Paris", "Not Paris but {} lies on the", "Seine"),
    Fact("Finn", "The {}ish language is spoken in", "Finland"),
    Fact("Zoe\u0301", "So the mother of {} comes from", "Ghana"),
    Fact("🦄", "{} is a symbol of", "purity"),
    Fact("the Bank of England", "Who once worked for {}, lives in", "London"),
)


@dataclass(frozen=True)
class Reference:
    """What the slow way gives, all layers first."""

    positions: list[int]
    keys: np.ndarray
    c: np.ndarray
    tokens: int
    p: np.ndarray
    whitening_cosine: np.ndarray
    activation_cosine: np.ndarray


class Oracle:
    """A float64 model that tells the input of every down-projection, one text at a time."""

    def __init__(self, folder: Path, architecture: str) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float64, attn_implementation="eager", local_files_only=True
        ).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        path, self.key = MLP[architecture]
        self.mlps = [block.mlp for block in self.model.get_submodule(path)]

    def keys(self, ids: Sequence[int]) -> np.ndarray:
        """(L, T, d_m) of one sequence."""
        actual: list[np.ndarray] = []
        handles = [
            mlp.register_forward_hook(lambda mlp, inputs, _: actual.append(self.key(mlp, inputs[0])[0].numpy()))
            for mlp in self.mlps
        ]
        with torch.no_grad():
            self.model(torch.tensor([ids]))
        for handle in handles:
            handle.remove()
        assert len(actual) == len(self.mlps)
        return np.stack(actual)

    def last_subject_token(self, fact: Fact) -> int:
        """The first position by which the decoded text holds the whole subject."""
        ids = self.tokenizer.encode(fact.text)
        until = fact.prompt.split("{}")[0] + fact.subject
        return next(k for k in range(len(ids)) if self.tokenizer.decode(ids[: k + 1]).lstrip(" ").startswith(until))

    def read(self, documents: Sequence[str]) -> list[list[int]]:
        """Token ids of the documents, cut at the context and at `TOKENS` in all."""
        left, cut = TOKENS, []
        for document in documents:
            cut.append(self.tokenizer.encode(document, verbose=False)[: tiny.CONTEXT][:left])
            left -= len(cut[-1])
            if not left:
                return cut
        raise AssertionError("the corpus is too short")

    def compute(self, facts: Sequence[Fact], documents: Sequence[str]) -> Reference:
        positions = [self.last_subject_token(fact) for fact in facts]
        keys = np.stack(
            [self.keys(self.tokenizer.encode(f.text))[:, at] for f, at in zip(facts, positions, strict=True)], axis=1
        )
        text = np.concatenate([self.keys(ids) for ids in self.read(documents)], axis=1)
        c = np.stack([sum(np.outer(k, k) for k in layer) / len(layer) for layer in text])
        p, whitened, activation = np.empty((3, len(c), len(facts), len(facts)))
        for layer, k in enumerate(keys):
            inverse = np.linalg.inv(c[layer])
            for i in range(len(facts)):
                for j in range(len(facts)):
                    ii, ij, jj = k[i] @ inverse @ k[i], k[i] @ inverse @ k[j], k[j] @ inverse @ k[j]
                    p[layer, i, j] = ij / ii
                    whitened[layer, i, j] = ij / np.sqrt(ii * jj)
                    activation[layer, i, j] = k[i] @ k[j] / np.sqrt((k[i] @ k[i]) * (k[j] @ k[j]))
        return Reference(positions, keys, c, text.shape[1], p, whitened, activation)


def lively(architecture: str, folder: Path) -> Path:
    """A saved random model whose activations are far from linear: fresh weights of size 0.02 leave them small."""
    made = tiny.model(architecture, seed=7)
    for parameter in made.model.parameters():
        if parameter.ndim == 2:
            parameter.mul_(LIVELY)
    made.model.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    return folder


def some_text() -> tuple[str, ...]:
    """Short documents, and every tenth one beyond the context."""
    short = corpora.builtin().texts[:60]
    return tuple(" ".join(short[k : k + 3]) if k % 10 == 4 else document for k, document in enumerate(short))


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("architecture", tiny.in_full(tiny.ARCHITECTURES, ("Llama",)))
def test_the_whole_way(architecture: str, tmp_path: Path) -> None:
    folder, documents = lively(architecture, tmp_path / "model"), some_text()
    oracle = Oracle(folder, architecture)
    expected = oracle.compute(FACTS, documents)
    assert any(len(oracle.tokenizer.encode(text, verbose=False)) > tiny.CONTEXT for text in documents)
    with (tmp_path / "facts.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = [(fact.subject, fact.prompt, fact.target) for fact in FACTS]
        csv.writer(stream).writerows([("subject", "prompt", "target"), *rows])
    (tmp_path / "corpus.txt").write_text("\n".join(documents), encoding="utf-8")
    files = (str(tmp_path / name) for name in ("facts.csv", "corpus.txt"))
    store = Store()
    actual = pipeline.run(pipeline.Request(str(folder), *files, tokens=TOKENS), store, device="cpu")
    assert actual.provenance["tokens_counted"] == expected.tokens == TOKENS
    for layer, c in enumerate(expected.c):
        assert_close(second_moment(actual, layer, store, lambda: None), c, SECOND_MOMENT)
    assert list(actual.key_token_index) == expected.positions
    for at, report in enumerate(actual.reports):
        assert report.condition_number == pytest.approx(np.linalg.cond(expected.c[at]), rel=1e-2)
        assert report.condition_number < MAX_CONDITION
        assert (report.rank, report.ridge) == (40, 0.0)
        assert_close(actual.p[at], expected.p[at], P)
        assert_close(actual.whitening_cosine[at], expected.whitening_cosine[at], P)
        assert_close(actual.activation_cosine[at], expected.activation_cosine[at], KEYS)
