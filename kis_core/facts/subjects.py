"""Where the subject of a fact stands in a prompt that has it in place, as most data sets but CounterFact write them.

The key of a fact is taken at the last token of its subject, so the place has to be certain: the subject stands in the
prompt once, and not as a part of a longer word ("Iran" is not in "Iranian").
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from kis_core.facts.fact import SLOT

NO_SLOT = "the prompt holds 0 `{}` where exactly one marks the subject"
OTHER_CASE = "The subject is written in other case in the prompt, and is taken as it stands there"
UNSPACED = "Lo"  # letters without case, most of them of scripts that put no blanks between words, or join words


def marked(prompt: str, subject: str) -> tuple[str, str]:
    """A prompt with `{}` in the place of its subject, and the subject as it stands there.

    A prompt that holds one `{}` is left as it is. In any other, the subject is looked for as it is written, and if it
    is not there, without regard to case.

    Raises:
        ValueError: the prompt does not say where its subject is; says why.
    """
    slots = prompt.count(SLOT)
    if slots == 1:
        return prompt, subject
    if slots:
        raise ValueError(NO_SLOT.replace("0", str(slots)))
    places = list(_places(prompt, subject)) or list(_places(_lower(prompt), _lower(subject)))
    if not places:
        raise ValueError(f"{NO_SLOT}, nor the subject itself")
    if len(places) > 1:
        raise ValueError(f"{NO_SLOT}, and the subject itself {len(places)} times")
    begin, end = places[0], places[0] + len(subject)
    return f"{prompt[:begin]}{SLOT}{prompt[end:]}", prompt[begin:end]


def _places(text: str, sought: str) -> Iterator[int]:
    """Where a text holds what is sought as whole words."""
    at = text.find(sought)
    while at >= 0:
        end = at + len(sought)
        if not (_joined(text, at) or _joined(text, end)):
            yield at
        at = text.find(sought, end)


def _joined(text: str, at: int) -> bool:
    """Whether the characters before and after an offset belong to one word."""
    if not 0 < at < len(text):
        return False
    before, after = text[at - 1], text[at]
    if unicodedata.combining(after):
        return True
    return all(mark.isalnum() and unicodedata.category(mark) != UNSPACED for mark in (before, after))


def _lower(text: str) -> str:
    """The text in lower case, as long as it was: the few letters that become two stay."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(m.lower() if len(m.lower()) == 1 else m for m in text)
