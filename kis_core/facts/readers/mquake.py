"""MQuAKE (Zhong et al., arXiv 2305.14795): records with several `requested_rewrite`, each of them a fact.

The questions over several hops, which the set is made for, are about no single fact and are not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kis_core.facts.readers.counterfact import REWRITE, rewritten
from kis_core.facts.reading import Reader, Record, listed


def facts(record: Record) -> Iterator[Record | str]:
    """The facts of a record, each with its question for a paraphrase."""
    rewrites = record.get(REWRITE)
    for rewrite in rewrites if isinstance(rewrites, list) and rewrites else [None]:
        fields = rewritten(rewrite)
        question = rewrite.get("question") if isinstance(rewrite, Mapping) else None
        yield fields if isinstance(fields, str) else {**fields, "paraphrases": listed(question)}


READER = Reader("MQuAKE records", {REWRITE: list}, (), facts, repeats=True)
