"""Which text the perplexity is taken on: what C was not taken over, found without reading the corpus word by word."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kis_core import corpora
from kis_core.demo import factbase
from kis_core.lifelong import model_health
from kis_core.lifelong.model_health import HeldOutText
from kis_core.request import Request, RequestError
from kis_core.scoring.perplexity import perplexity
from kis_core.simulator import Simulator
from kis_core.store.store import Store
from tests import tiny
from tests.results.results_tools import made

DOCUMENTS = tuple(f"Document {number} of the corpus says so." for number in range(30))


def no_model() -> Any:
    raise AssertionError("nothing has to be tokenised")


TEXT = "0" * 64  # fingerprint of the text behind a made result


def bench_of(store: Store, corpus: str, load: Any = no_model, **provenance: Any) -> Simulator:
    result = made(np.eye(3)[None])
    result = replace(
        result,
        request=Request(corpus=corpus, tokens=None),
        provenance=result.provenance | {"tokens_counted": 1} | provenance,
    )
    return Simulator(result, store, load)


@pytest.fixture
def corpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stands for what a request names; tells how many documents were taken from it."""
    taken: list[int] = []

    def documents() -> Iterator[str]:
        for number, text in enumerate(DOCUMENTS):
            taken.append(number)
            yield text

    monkeypatch.setattr(corpora, "load", lambda _: SimpleNamespace(documents=documents, stamp=None, fingerprint=TEXT))
    return taken


@pytest.mark.parametrize(("read", "expected"), [(0, DOCUMENTS[:8]), (5, DOCUMENTS[5:13]), (27, DOCUMENTS[27:])])
def test_the_documents_after_those_behind_c(
    store: Store, corpus: list[int], read: int, expected: tuple[str, ...]
) -> None:
    actual = model_health.held_out(bench_of(store, "wikipedia", documents_read=read))
    assert actual.texts == expected
    assert actual.source == f"the first 256 tokens of {len(expected)} documents of the corpus that C was not taken over"
    assert actual.longest == 256
    assert len(corpus) <= read + model_health.HELD_OUT_DOCUMENTS + 1


def test_a_text_that_changed_since_is_not_read_in_the_place_of_the_old_one(store: Store, corpus: list[int]) -> None:
    with pytest.raises(RequestError, match=r"text text\.txt changed since C was taken over it"):
        model_health.held_out(bench_of(store, "text.txt", corpus_sha256="1" * 64))
    assert not corpus


def test_the_last_ones_where_all_are_behind_c(store: Store, corpus: list[int]) -> None:
    actual = model_health.held_out(bench_of(store, "wikipedia", documents_read=90))
    assert actual.texts == DOCUMENTS[-8:]
    assert actual.source == "the first 256 tokens of the last 8 documents of the corpus, which C was taken over too"


@pytest.mark.parametrize("provenance", [{}, {"documents_read": None}])
def test_by_their_tokens_where_nobody_counted_documents(
    store: Store, corpus: list[int], provenance: dict[str, Any]
) -> None:
    model = tiny.model("GPT-2")
    each = [len(model.tokenizer.encode(text)) for text in DOCUMENTS]
    counted = sum(each[:3]) + 1  # the fourth was begun
    actual = model_health.held_out(bench_of(store, "text.txt", lambda: model, tokens_counted=counted, **provenance))
    assert actual.texts == DOCUMENTS[4:12]


def test_where_c_came_without_its_text_the_demo_corpus_is_read(store: Store, tmp_path: Path) -> None:
    (tmp_path / "transformer.h.0.mlp.c_proj_float32_mom2_100000.npz").write_bytes(b"")
    actual = model_health.held_out(bench_of(store, str(tmp_path)))
    assert actual.source == "60 sentences held out in the demo family’s training, as C came without its text"
    assert set(actual.texts) <= {sentence for fact in factbase.load() for sentence in fact.sentences(held_out=True)}
    assert model_health.held_out(bench_of(store, str(tmp_path / "since removed"), statistics="of ROME")) == actual
    plain = model_health.held_out(bench_of(store, "builtin"))
    assert plain.texts == actual.texts
    assert plain.source == "60 sentences held out in the demo family’s training"


def test_no_more_of_a_text_is_read_than_it_says() -> None:
    model, texts = tiny.model("GPT-2"), ("Oslo lies in Norway, and Malta is an island.",)
    whole = perplexity(model, texts)
    assert model_health.read(model, HeldOutText(texts, "a text")) == whole
    assert model_health.read(model, HeldOutText(texts, "a text", 4)) == perplexity(model, texts, longest=4) != whole
