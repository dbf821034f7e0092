"""ROME's known_1000 (Meng et al., arXiv 2202.05262): facts that GPT-2 XL knows, the object as `attribute`."""

from __future__ import annotations

from typing import Any

from kis_core.facts.fact import SLOT
from kis_core.facts.reading import Reader, Record


def facts(record: Record) -> list[Record]:
    """The fact of a record.

    The attribute completes `prompt`, which begins with the `template` about the subject and may go on after it.
    """
    subject, target, relation = (record.get(name) for name in ("subject", "attribute", "relation_id"))
    prompt = _prompt(record.get("prompt"), record.get("template"), subject)
    return [{"subject": subject, "prompt": prompt, "target": target, "relation": relation}]


def _prompt(prompt: Any, template: Any, subject: Any) -> Any:
    """The prompt, with `{}` for the subject where the template says which words it is."""
    if not prompt:
        return template
    if all(isinstance(text, str) for text in (prompt, template, subject)) and template.count(SLOT) == 1:
        begin = template.replace(SLOT, subject)
        if prompt.startswith(begin):
            return template + prompt[len(begin) :]
    return prompt


READER = Reader(
    "known_1000 records",
    {"subject": object, "attribute": object},
    ("prompt", "template", "relation_id"),
    facts,
    names={"target": "attribute"},
)
