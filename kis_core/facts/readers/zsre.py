"""zsRE as MEND (Mitchell et al., arXiv 2110.11309) prepared it and ROME and EasyEdit keep it: a question a record."""

from __future__ import annotations

from kis_core.facts.readers.easyedit import asked, edited
from kis_core.facts.reading import Reader, Record, first, listed


def facts(record: Record) -> list[Record]:
    """The fact of a record: the first of `answers` to the question `src`, to be edited to `alt`."""
    locality = list(asked(record.get("loc"), record.get("loc_ans")))
    fields = edited(record, first(record.get("answers")), first(record.get("alt")), locality)
    return [{**fields, "prompt": record.get("src"), "paraphrases": listed(record.get("rephrase"))}]


READER = Reader(
    "zsRE records",
    {"src": object, "answers": object},
    ("subject", "alt", "rephrase", "loc", "loc_ans"),
    facts,
    names={"prompt": "src", "target": "answers"},
)
