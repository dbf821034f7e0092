"""Keys of general text: which tokens are taken, that their mean leverage is the rank of C, and where there are none."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from kis_core import corpora
from kis_core.analysis import text_sample
from kis_core.analysis.resolve import ResolvedRequest, resolve
from kis_core.analysis.text_sample import keys_of_text
from kis_core.corpora import Corpus, CorpusError
from kis_core.corpora.corpus import Texts
from kis_core.covariance.passes import second_moments
from kis_core.covariance.rome_files import Statistics
from kis_core.covariance.whitener import Whitener
from kis_core.keys import text_keys
from kis_core.models.loaded import LoadedModel
from kis_core.models.tokens import ids_of
from kis_core.request import Request
from kis_core.store.store import Store
from kis_core.superposition.matrix import leverage

TEXTS = corpora.builtin().texts[:8]
BATCHED = 1e-4  # relative: float32 passes over batches of another shape, and C⁻¹ of a condition of a few hundred
LAYERS = (0, 2)
FIRST = 43  # tokens of the first text


@pytest.fixture
def resolved(store: Store) -> ResolvedRequest:
    return replace(resolve(Request(model="demo-gpt2-32"), store), corpus=Texts("mine", TEXTS))


def test_mean_leverage_over_all_of_the_text_is_the_rank_of_c(gpt2: LoadedModel) -> None:
    rows = ids_of(gpt2.tokenizer, TEXTS)
    keys = text_keys(gpt2, rows, [range(len(row)) for row in rows], layers=LAYERS)
    for of_layer, moment in zip(keys, second_moments(gpt2, TEXTS, tokens=None, layers=LAYERS), strict=True):
        assert len(of_layer) == moment.tokens
        whitener = Whitener.fit(moment.matrix)
        assert leverage(whitener.whiten(of_layer)).mean() == pytest.approx(whitener.rank, rel=BATCHED)


def test_they_are_those_of_every_token_but_the_first_of_each_document(
    gpt2: LoadedModel, resolved: ResolvedRequest
) -> None:
    keys = keys_of_text(resolved, gpt2, LAYERS)
    assert keys is not None
    rows = ids_of(gpt2.tokenizer, TEXTS)
    assert keys.shape == (2, sum(map(len, rows)) - len(rows), gpt2.architecture.widths[1])
    one_by_one = [text_keys(gpt2, [row], [range(1, len(row))], layers=LAYERS) for row in sorted(rows, key=len)]
    np.testing.assert_allclose(keys, np.concatenate(one_by_one, axis=1), atol=BATCHED)
    again = keys_of_text(resolved, gpt2, LAYERS)
    assert again is not None
    assert again.tobytes() == keys.tobytes()


@pytest.mark.parametrize(
    ("limits", "expected"),
    [({"tokens": 30}, 29), ({"documents": 1, "tokens": None}, FIRST - 1), ({"tokens": 1}, None)],
)
def test_no_more_of_the_text_than_c_is_taken_over(
    limits: dict[str, int | None], expected: int | None, gpt2: LoadedModel, resolved: ResolvedRequest
) -> None:
    keys = keys_of_text(replace(resolved, request=replace(resolved.request, **limits)), gpt2, LAYERS)
    assert (keys if keys is None else keys.shape[1]) == expected


def test_of_long_documents_fewer_are_run(
    gpt2: LoadedModel, resolved: ResolvedRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_sample, "TOKENS", 50)
    monkeypatch.setattr(text_sample, "LEAST_ROW", 20)
    keys = keys_of_text(resolved, gpt2, LAYERS)
    assert keys is not None
    assert keys.shape[1] == 50 - 3, "20, 20 and 10 tokens of three documents"


class Broken(Corpus):
    """A corpus that cannot be read."""

    def documents(self) -> Iterator[str]:
        raise CorpusError("no connection")


def test_where_there_is_no_text_there_are_none(
    gpt2: LoadedModel, resolved: ResolvedRequest, caplog: pytest.LogCaptureFixture
) -> None:
    files = Statistics.__new__(Statistics)  # only its class is looked at
    with caplog.at_level(logging.WARNING):
        assert keys_of_text(replace(resolved, corpus=files, text="f" * 64), gpt2, LAYERS) is None
        assert caplog.messages == []
        assert keys_of_text(replace(resolved, corpus=Broken("x"), text="f" * 64), gpt2, LAYERS) is None
    assert "no connection" in caplog.text
