"""Lists of edits as EasyEdit (arXiv 2308.07269) and its benchmark KnowEdit (arXiv 2401.01286) keep them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kis_core.facts.fact import SLOT
from kis_core.facts.reading import NOTES, Reader, Record, Unfit, first, listed

NO_TRUTH = "Records without `ground_truth` name one object, `target_new`: it was taken for the right answer"
PLACEHOLDER = "<|endoftext|>"
UNKNOWN = Unfit(f"is {PLACEHOLDER}, which EasyEdit writes where it knows no right answer")
NOT_NEIGHBOURS = "Locality prompts with another answer than the fact’s, or about its own subject, were left out"
Asked = tuple[str, list[Any]]
"""A prompt, and its answers: names of one object."""


def facts(record: Record) -> list[Record | str]:
    """The fact of a record: the object of `ground_truth`, to be edited to that of `target_new`."""
    truth, new = first(record.get("ground_truth")), first(record.get("target_new"))
    target = UNKNOWN if truth == PLACEHOLDER else truth or new
    fields = edited(record, target, new if truth else None, [*_locality(record.get("locality")), *_flat(record)])
    paraphrases = record.get("rephrase_prompt") or record.get("rephrase_prompts") or record.get("rephrase")
    notes = [*fields[NOTES], *([] if truth else [NO_TRUTH])]
    return [{**fields, "prompt": record.get("prompt"), "paraphrases": _filled(paraphrases, record), NOTES: notes}]


def edited(record: Record, target: Any, new_target: Any, locality: list[Asked]) -> dict[str, Any]:
    """The fields of a fact but for its prompts, with those of its locality prompts that are neighbours."""
    subject = record.get("subject")
    words = subject.casefold() if isinstance(subject, str) and subject.strip() else None
    neighbours = [
        prompt for prompt, answers in locality if target in answers and not (words and words in prompt.casefold())
    ]
    return {
        "subject": subject,
        "target": target,
        "new_target": new_target or None,
        "neighbours": neighbours,
        NOTES: [NOT_NEIGHBOURS] if len(neighbours) < len(locality) else [],
    }


def asked(prompts: Any, answers: Any) -> Iterator[Asked]:
    """Prompts with their answers: one prompt with all names of its answer, or as many prompts as answers."""
    if isinstance(prompts, list):
        for prompt, answer in zip(prompts, listed(answers), strict=False):
            yield from asked(None if isinstance(prompt, list) else prompt, answer)
    elif isinstance(prompts, str) and prompts:
        yield prompts, [name for names in listed(answers) for name in listed(names)]


def _filled(paraphrases: Any, record: Record) -> list[Any]:
    """The paraphrases, with the subject in place where one has `{}`."""
    subject = str(record.get("subject"))
    return [text.replace(SLOT, subject, 1) if isinstance(text, str) else text for text in listed(paraphrases)]


def _locality(groups: Any) -> Iterator[Asked]:
    """The prompts of all groups: EasyEdit's are objects of lists, KnowEdit's are lists of objects."""
    for group in groups.values() if isinstance(groups, Mapping) else ():
        for item in listed(group):
            if isinstance(item, Mapping):
                yield from asked(item.get("prompt"), item.get("ground_truth"))


def _flat(record: Record) -> Iterator[Asked]:
    yield from asked(record.get("locality_prompt"), record.get("locality_ground_truth"))


READER = Reader(
    "EasyEdit or KnowEdit records",
    {"prompt": object, "target_new": object},
    (
        *("subject", "ground_truth", "rephrase_prompt", "rephrase_prompts", "rephrase"),
        *("locality", "locality_prompt", "locality_ground_truth"),
    ),
    facts,
    names={"target": "ground_truth"},
)
