"""Results made from arrays, for tests of what is done with a result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from kis_core.facts import Fact, FactSet, RowIssue
from kis_core.request import Request
from kis_core.results.result import LayerReport, Result
from kis_core.results.tags import FactTags
from kis_core.superposition.leverage import LEVELS

WIDTH = 4
MLP_WIDTH = 40
NAME = "made"


def made(
    p: np.ndarray,
    *,
    subjects: Sequence[str] | None = None,
    relations: Sequence[str] | None = None,
    key_token_ids: Sequence[int] | None = None,
    layers: Sequence[int] | None = None,
    whitening: np.ndarray | None = None,
    key_token_index: Sequence[int] | None = None,
    leverage: np.ndarray | None = None,
    text_leverage: Sequence[float] | None = None,
) -> Result:
    """A result with this P, (L, m, m); its reports are those of `LayerReport.describe`.

    Args:
        p: every entry is taken as it is, NaN included.
        subjects: of the m facts, all different by default; fact k reads "<subject> lies in land k".
        relations: of the m facts, none by default.
        key_token_ids: of the m facts, all different by default.
        layers: their L numbers, from 0 by default.
        whitening: cosines, (L, m, m); by default all keys stand at right angles. Activation cosines are half of them,
            off the diagonal.
        key_token_index: of the m facts, from 1 by default.
        leverage: (L, m), 1 by default.
        text_leverage: quantiles of general text's leverage in every layer; unknown by default.
    """
    count, m, _ = p.shape
    subjects = [f"subject {k}" for k in range(m)] if subjects is None else subjects
    relations = [""] * m if relations is None else relations
    ids = tuple(range(100, 100 + m)) if key_token_ids is None else tuple(key_token_ids)
    numbers = tuple(range(count)) if layers is None else tuple(layers)
    cosine = np.where(np.isfinite(p), np.eye(m), np.nan) if whitening is None else whitening
    facts = FactSet(
        NAME,
        tuple(Fact(s, "{} lies in", f"land {k}", r) for k, (s, r) in enumerate(zip(subjects, relations, strict=True))),
        (RowIssue(m + 2, "subject is blank"),),
    )
    places = tuple(range(1, m + 1)) if key_token_index is None else tuple(key_token_index)
    artefacts = FactTags.of(facts.facts, ids, places).artefacts
    request = Request(layers=numbers)
    model = {"model": request.model, "family": "GPT-2", "parameters": 1000, "width": WIDTH, "mlp_width": MLP_WIDTH}
    of_facts = {"facts": NAME, "facts_count": m, "facts_sha256": facts.fingerprint, "layers_in_model": max(numbers) + 1}
    text = {"corpus": request.corpus, "corpus_sha256": "0" * 64}
    tokens = {"tokens_requested": request.tokens, "tokens_counted": request.tokens}
    weights = {"weights_sha256": "f" * 64, "revision": None, "dtype": request.dtype, "device": "cpu"}
    source = {"request": asdict(request), **model, **of_facts, **text, **tokens, **weights, "versions": {"numpy": "2"}}
    return Result(
        request=request,
        facts=facts,
        layers=numbers,
        p=p,
        whitening_cosine=cosine,
        activation_cosine=(cosine + cosine * np.eye(m)) / 2,
        leverage=np.ones((count, m)) if leverage is None else leverage,
        text_leverage=np.tile([np.nan] * len(LEVELS) if text_leverage is None else text_leverage, (count, 1)),
        reports=tuple(
            LayerReport.describe(one, artefacts, layer=n, rank=MLP_WIDTH - n, condition_number=10.0 + n, ridge=1e-9 * n)
            for n, one in zip(numbers, p, strict=True)
        ),
        key_token_index=places,
        key_tokens=tuple(f"token {number}" for number in ids),
        key_token_ids=ids,
        answers=tuple(((f"land {k}", 0.5), ("sea", 0.25)) for k in range(m)),
        known=tuple(k % 2 == 0 for k in range(m)),
        provenance=source,
        key="superposition-0",
    )
