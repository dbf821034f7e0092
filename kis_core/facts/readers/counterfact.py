"""CounterFact (Meng et al., arXiv 2202.05262): a JSON list of records with `requested_rewrite`, read and written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kis_core.errors import shown
from kis_core.facts.fact import Fact, FactFileError, FactSet
from kis_core.facts.reading import Reader, Rows

TITLE = "uploaded_as"  # of the first record, in sets that are kept: the name of the file the facts came from


def parse(data: bytes, name: str) -> FactSet:
    """Facts from CounterFact JSON.

    Each `requested_rewrite` holds `prompt`, `subject`, `target_true.str` and, if present, `relation_id` and
    `target_new.str`; beside it may stand `paraphrase_prompts` and `neighborhood_prompts`.

    Raises:
        FactFileError: no text, not JSON, not a list, or no usable record.
    """
    rows = Rows(data, name)
    try:
        records = json.loads(rows.text)
    except (ValueError, RecursionError) as error:  # ValueError: bad syntax, or an integer of thousands of digits
        raise FactFileError(
            f"{rows.name} is not valid JSON: {error}. Is it CSV? Then let its name end in .csv."
        ) from error
    if not isinstance(records, list):
        raise FactFileError(f"{rows.name} holds a {type(records).__name__}; CounterFact is a list of records.")
    title = records[0].get(TITLE) if records and isinstance(records[0], Mapping) else None
    for number, record in enumerate(records, start=1):
        rows.take(number, _fields(record))
    return rows.facts(shown(title) if isinstance(title, str) and title.strip() else "")


def to_record(fact: Fact) -> dict[str, Any]:
    """The record that `parse` reads the fact from."""
    rewrite: dict[str, Any] = {
        "prompt": fact.prompt,
        "subject": fact.subject,
        "target_true": {"str": fact.target},
        "relation_id": fact.relation,
    }
    if fact.new_target:
        rewrite["target_new"] = {"str": fact.new_target}
    beside = {"paraphrase_prompts": list(fact.paraphrases), "neighborhood_prompts": list(fact.neighbours)}
    return {"requested_rewrite": rewrite} | {name: texts for name, texts in beside.items() if texts}


def _fields(record: Any) -> Mapping[str, Any] | str:
    rewrite = record.get("requested_rewrite") if isinstance(record, Mapping) else None
    if not isinstance(rewrite, Mapping):
        return "no `requested_rewrite` object"
    target, new_target = rewrite.get("target_true"), rewrite.get("target_new")
    if not isinstance(target, Mapping):
        return "no `target_true.str`"
    return {
        "subject": rewrite.get("subject"),
        "prompt": rewrite.get("prompt"),
        "target": target.get("str"),
        "relation": rewrite.get("relation_id") or "",
        "new_target": new_target.get("str") if isinstance(new_target, Mapping) else new_target,
        "paraphrases": record.get("paraphrase_prompts"),
        "neighbours": record.get("neighborhood_prompts"),
    }


READER = Reader("a CounterFact JSON file", (".json",), parse)
