"""CounterFact (Meng et al., arXiv 2202.05262): records with one `requested_rewrite`, read and written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kis_core.facts.fact import Fact
from kis_core.facts.reading import Reader, Record

REWRITE = "requested_rewrite"
PARAPHRASES, NEIGHBOURS = "paraphrase_prompts", "neighborhood_prompts"


def facts(record: Record) -> list[Record | str]:
    """The fact of a record, with its paraphrases and neighbours.

    `attribute_prompts`, which the new object completes, and `generation_prompts` are of no use to a fact.
    """
    fields = rewritten(record.get(REWRITE))
    if isinstance(fields, str):
        return [fields]
    return [{**fields, "paraphrases": record.get(PARAPHRASES), "neighbours": record.get(NEIGHBOURS)}]


def rewritten(rewrite: Any) -> Record | str:
    """The fields of a requested rewrite.

    It holds `prompt`, `subject`, `target_true.str` and, if present, `relation_id` and `target_new.str`.
    """
    if not isinstance(rewrite, Mapping):
        return f"no `{REWRITE}` object"
    target, new_target = rewrite.get("target_true"), rewrite.get("target_new")
    if not isinstance(target, Mapping):
        return "no `target_true.str`"
    return {
        "subject": rewrite.get("subject"),
        "prompt": rewrite.get("prompt"),
        "target": target.get("str"),
        "relation": rewrite.get("relation_id") or "",
        "new_target": new_target.get("str") if isinstance(new_target, Mapping) else new_target,
    }


def to_record(fact: Fact) -> dict[str, Any]:
    """The record that the fact is read from."""
    rewrite: dict[str, Any] = {
        "prompt": fact.prompt,
        "subject": fact.subject,
        "target_true": {"str": fact.target},
        "relation_id": fact.relation,
    }
    if fact.new_target:
        rewrite["target_new"] = {"str": fact.new_target}
    beside = {PARAPHRASES: list(fact.paraphrases), NEIGHBOURS: list(fact.neighbours)}
    return {REWRITE: rewrite} | {name: texts for name, texts in beside.items() if texts}


READER = Reader("CounterFact records", {REWRITE: Mapping}, (PARAPHRASES, NEIGHBOURS), facts)
