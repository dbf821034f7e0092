"""What the readers of all formats share: a row of fields becomes a fact or an issue, and what was assumed a note.

A reader never gives up on a file because of a bad row: it keeps the good ones and reports the others one by one. User
text is only ever inserted with `str.replace`, never given to `str.format`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kis_core.errors import shown
from kis_core.facts.fact import SLOT, Fact, FactFileError, FactSet, RowIssue
from kis_core.files import field_text, file_text

REQUIRED_COLUMNS = ("subject", "prompt", "target")
OPTIONAL_COLUMNS = ("relation",)
MAX_FIELD_CHARACTERS = 2_000  # far above any sentence about a fact; a longer field is a slip or an attack
EXAMPLE = "Danielle Darrieux,The mother tongue of {} is,French"
NO_SLOT = "the prompt holds 0 `{}` where exactly one marks the subject"
BROUGHT = ("new_target", "paraphrases", "neighbours")  # by some formats, beside the columns
LEFT_OUT = "New objects, paraphrases or neighbours that are no usable text were left out"
PLACES_SHOWN = 5  # rows that a note names


@dataclass(frozen=True, slots=True)
class Reader:
    """A format of fact files.

    Attributes:
        label: what it is called in messages, with its article.
        endings: of the names of such files, in lower case; one of them empty for the format of all other names.
        parse: gives the facts in the bytes of a file that is called so.
    """

    label: str
    endings: tuple[str, ...]
    parse: Callable[[bytes, str], FactSet]


class Rows:
    """What has been read of a file so far.

    Attributes:
        name: of the file, as it may be shown.
        text: of the file.

    Raises:
        FactFileError: the bytes are no text.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.name = shown(name)
        try:
            self.text, note = file_text.read(data)
        except file_text.NotText as error:
            raise FactFileError(f"{self.name} {error}") from error
        self._kept: list[Fact] = []
        self._issues: list[RowIssue] = []
        self._notes: dict[str, list[str]] = {note: []} if note else {}

    def take(self, row: int, fields: Mapping[str, Any] | str) -> None:
        """Take in a row: its fields by the names of a `Fact`'s, or why it has none."""
        try:
            if isinstance(fields, str):
                raise ValueError(fields)
            values: dict[str, Any] = {
                column: self._value(column, fields, row) for column in REQUIRED_COLUMNS + OPTIONAL_COLUMNS
            }
            slots = values["prompt"].count(SLOT)
            if slots != 1:
                raise ValueError(NO_SLOT.replace("0", str(slots)))
            self._kept.append(Fact(**values, **self._brought(fields, row)))
        except ValueError as error:
            self._issues.append(RowIssue(row, str(error)))

    def _value(self, column: str, fields: Mapping[str, Any], row: int) -> str:
        value = fields.get(column, "" if column in OPTIONAL_COLUMNS else None)
        if not isinstance(value, str):
            raise ValueError(f"{column} is missing")
        if len(value) > MAX_FIELD_CHARACTERS:
            raise ValueError(f"{column} has {len(value):,} characters; at most {MAX_FIELD_CHARACTERS:,}")
        kept = field_text.tidy(value)
        if column in REQUIRED_COLUMNS and not kept:
            raise ValueError(f"{column} is blank")
        if value.isascii() and value.isprintable():
            return kept  # most are; the rest takes several times as long to look at
        if fault := field_text.fault(kept):
            raise ValueError(f"{column} {fault}")
        for remark, about in field_text.remarks(value, kept):
            self.note(remark, f"row {row}, {column} ({about})")
        return kept

    def _brought(self, fields: Mapping[str, Any], row: int) -> dict[str, Any]:
        """What a fact may have beside its own columns, as far as it can be asked as it is."""
        brought: dict[str, Any] = {}
        for name in BROUGHT:
            if (value := fields.get(name)) is None:
                continue
            texts = value if isinstance(value, list) else [value]
            short = [text for text in texts if isinstance(text, str) and len(text) <= MAX_FIELD_CHARACTERS]
            kept = [text for text in map(field_text.tidy, short) if text and not field_text.fault(text)]
            if len(kept) < len(texts):
                self.note(LEFT_OUT, f"row {row}")
            brought[name] = "".join(kept[:1]) if name == "new_target" else tuple(kept)
        return brought

    def note(self, what: str, where: str) -> None:
        """Note something, and where it was seen."""
        self._notes.setdefault(what, []).append(where)

    def facts(self, name: str = "") -> FactSet:
        """The set, under another name than the file's if one is given.

        Raises:
            FactFileError: no row could be used.
        """
        name = name or self.name
        if self._kept:
            return FactSet(name, tuple(self._kept), tuple(self._issues), tuple(_sentences(self._notes)))
        first = f" First problem: row {self._issues[0].row}: {self._issues[0].reason}." if self._issues else ""
        slot = any(issue.reason == NO_SLOT for issue in self._issues)
        advice = f" Put {SLOT} in each prompt where the subject goes, as in: {EXAMPLE}" if slot else ""
        raise FactFileError(f"{name} holds no usable fact.{first}{advice}")


def _sentences(notes: Mapping[str, list[str]]) -> Iterator[str]:
    for what, places in notes.items():
        more = f"; and {len(places) - PLACES_SHOWN:,} more" if len(places) > PLACES_SHOWN else ""
        yield f"{what}: {'; '.join(places[:PLACES_SHOWN])}{more}." if places else what
