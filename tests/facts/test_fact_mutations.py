"""Good fact files with one thing changed: it may alter or lose the fact it touches, and makes no other one false."""

from __future__ import annotations

import csv
import io
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from kis_core.facts import Fact, FactFileError, FactSet, parse
from kis_core.files.csv_records import DELIMITERS

QUICK, MANY = 150, 10_000
SECONDS_EACH = 0.5  # CPU time of reading a file of 1 kB: a thousand times what it takes, so only a runaway reaches it
MOST_LOST = 2  # records beside the one touched: one that a quote left open may end in, and one it may have begun in
PIECES = (
    *(b'"', b'""', b",", b";", b"\t", b"\n", b"\r", b"\r\n", b"{}", b"'", b" ", b"\\", b"\x00", b"\x1b[31m", b"\xff"),
    *(b"\xe9", b"\x92", b'\n"', b'",', b',"', b',"x', b'"\n', "\u200b".encode(), "\ufeff".encode(), "\u00a0".encode()),
    *("é".encode(),),
)
PLAIN = (
    Fact("Paris", "{} is the capital of", "France", "capital"),
    Fact("Danielle Darrieux", "The mother tongue of {}, they say, is", "French", "tongue"),
    Fact('Jan "the Bear"', "{} was born in", "Gdansk; or so"),
    Fact("Ada\nLovelace", "{} spoke", "English", "tongue"),
    Fact("@midnight", "{} is shown\ton", "-5 channels", "=channel"),
    Fact("'quoted'", '"{}" is,\r\nthey said, a', '"word"', "kind"),
    Fact("Rome", "{}, of all cities, lies in", "Italy"),
    Fact("''=1", "The sum {} is", "2"),
)
LETTERS = (
    Fact("Zürich", "{} liegt in der", "Schweiz", "country"),
    Fact("東京", "{} は", "日本"),
    Fact("Köln", "„{}“ ist, so heißt es,", "schön\nund alt"),
    *PLAIN[:4],
)
ONE_LINE = tuple(fact for fact in (*PLAIN, *LETTERS[:2]) if "\n" not in fact.text)


@dataclass(frozen=True)
class Written:
    """A good file: its facts, where each lies in its bytes, and where the header ends."""

    name: str
    data: bytes
    facts: tuple[Fact, ...]
    spans: tuple[tuple[int, int], ...]


def as_csv(facts: tuple[Fact, ...], delimiter: str, quoting: int, end: str, *, filled: bool = False) -> Written:
    """As any program writes it, with the program's own guard before formulas where there is none in it.

    `filled`: each prompt has its subject in place.
    """
    parts, spans, at = [], [], 0
    written = [replace(fact, prompt=fact.text) if filled else fact for fact in facts]
    guarded = [
        [f"'{cell}" if cell.lstrip("'")[:1] in ("=", "+", "-", "@") else cell for cell in fact.to_json().values()]
        for fact in written
    ]
    for row in (list(facts[0].to_json()), *guarded):
        stream = io.StringIO()
        csv.writer(stream, delimiter=delimiter, quoting=quoting, lineterminator=end).writerow(row)  # type: ignore[arg-type]
        parts.append(stream.getvalue().encode())
        spans.append((at, at := at + len(parts[-1])))
    return Written("good.csv", b"".join(parts), facts, tuple(spans))


def as_json(facts: tuple[Fact, ...]) -> Written:
    parts, spans, at = [b"["], [(0, 1)], 1
    for fact in facts:
        rewrite = {"prompt": fact.prompt, "subject": fact.subject, "target_true": {"str": fact.target}}
        rewrite["relation_id"] = fact.relation
        parts.append(json.dumps({"requested_rewrite": rewrite}, ensure_ascii=False).encode() + b",\n")
        spans.append((at, at := at + len(parts[-1])))
    parts[-1] = parts[-1].removesuffix(b",\n") + b"]"
    return Written("good.json", b"".join(parts), facts, tuple(spans))


def good_files() -> list[Written]:
    files = [
        as_csv(facts, delimiter, quoting, end)
        for facts in (PLAIN, LETTERS)
        for delimiter in DELIMITERS
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
        for end in ("\n", "\r\n")
    ]
    in_place = [as_csv(ONE_LINE, delimiter, csv.QUOTE_MINIMAL, "\n", filled=True) for delimiter in DELIMITERS]
    return [*files, *in_place, as_json(PLAIN), as_json(LETTERS)]


def mutated(data: bytes, chance: random.Random) -> tuple[bytes, int, int, int]:
    """The bytes with one thing changed; where, up to where before, and up to where now."""
    at = chance.randrange(len(data))
    match chance.randrange(6):
        case 0:  # another byte
            stop, new = at + 1, bytes([chance.randrange(256)])
        case 1:  # something put in
            stop, new = at, chance.choice(PIECES)
        case 2:  # something in the place of a byte
            stop, new = at + 1, chance.choice(PIECES)
        case 3:  # a byte gone
            stop, new = at + 1, b""
        case 4:  # a stretch gone
            stop, new = min(len(data), at + chance.randrange(2, 60)), b""
        case _:  # a stretch twice
            begin = chance.randrange(len(data))
            stop, new = at, data[begin : begin + chance.randrange(2, 60)]
    return data[:at] + new + data[stop:], at, stop, at + len(new)


def check(file: Written, chance: random.Random) -> None:
    data, at, stop, now = mutated(file.data, chance)
    touched = [k for k, (begin, end) in enumerate(file.spans) if begin <= stop and at <= end]
    begin, end = file.spans[touched[0]][0], file.spans[touched[-1]][1] + now - stop
    began = time.process_time()
    actual = outcome(data, file.name)
    assert time.process_time() - began < SECONDS_EACH, data
    if isinstance(actual, str):
        assert actual.isprintable(), data
        return
    assert all(issue.reason.isprintable() for issue in actual.issues), data
    assert all(note.isprintable() for note in actual.notes), data
    untouched = [fact for k, fact in enumerate(file.facts, start=1) if k not in touched]
    others = [fact for fact in actual.facts if fact not in untouched]
    if 0 in touched and file.name.endswith(".csv"):  # the header: a column may have got another name
        wanted = {replace(fact, relation="") for fact in file.facts}
        others = [fact for fact in others if replace(fact, relation="") not in wanted]
    stretch = text_of(data[begin:end], data)
    for fact in others:
        for field in (fact.subject, fact.target, fact.relation):
            assert bare(field) in bare(stretch), (data, fact)
        assert any(bare(prompt) in bare(stretch) for prompt in (fact.prompt, fact.text)), (data, fact)
    lost = [fact for fact in untouched if fact not in actual.facts]
    if lost and 0 not in touched:
        assert actual.issues, data
        assert len(lost) <= MOST_LOST, (data, lost, actual.issues)


def outcome(data: bytes, name: str) -> FactSet | str:
    try:
        return parse(data, name=name)
    except FactFileError as error:
        return str(error)


def text_of(part: bytes, data: bytes) -> str:
    try:
        data.decode()
    except UnicodeDecodeError:
        return part.decode("cp1252")
    return part.decode()


def bare(text: str) -> str:
    """Without what quoting adds, in CSV and in JSON."""
    for escape, plain in (("\\n", ""), ("\\r", ""), ("\\t", "")):
        text = text.replace(escape, plain)
    return "".join(one for one in text if one not in '"\\\n\r\t')


def test_a_good_file_is_read_as_it_was_written() -> None:
    for file in good_files():
        actual = parse(file.data, name=file.name)
        assert (actual.facts, actual.issues) == (file.facts, ())


@pytest.mark.parametrize(("count", "seed"), [(QUICK, 13), pytest.param(MANY, 1, marks=pytest.mark.stress)])
def test_one_change_makes_no_other_fact_false(
    count: int, seed: int, record_property: Callable[[str, object], None]
) -> None:
    record_property("trials", count)
    chance, files = random.Random(seed), good_files()
    for _ in range(count):
        check(chance.choice(files), chance)
