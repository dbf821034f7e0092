"""The text of one field as a person sees it, without invisible characters that would give it other tokens.

A character without a glyph gives a text that looks the same other tokens, and so another key. At the ends of a field it
has no meaning and is removed. Inside, the joiners of Persian, of Indic scripts and of emoji are spelling and stay; the
others are refused. Unusual blanks, and letters written as a base and an accent, may be intended: they stay, with a
remark for the reader.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator

from kis_core.errors import shown

NEVER_MEANT = "\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb"
JOINERS = "\u200c\u200d"
BLANK_ALONE = "\u034f\u115f\u1160\u17b4\u17b5\u2800"  # may be meant between other characters
WHITESPACE = "".join(mark for mark in map(chr, range(sys.maxunicode + 1)) if mark.isspace())
UNSEEN = re.compile(f"[{NEVER_MEANT}{JOINERS}{BLANK_ALONE}{WHITESPACE}]*")
USUAL = " \t\r\n"  # blanks that need no remark
OTHER_BLANK = re.compile("[\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f]")
BROKEN = re.compile(f"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffd{NEVER_MEANT}]")
VIRAMA = 9  # the combining class of signs after which a joiner makes another letter: ন্‍, ന്‍

TAKEN_OFF = "Invisible characters were removed from the ends of fields"
BLANKS_KEPT = "Unusual blanks are kept; a tokenizer makes other tokens of them"
ACCENTS_KEPT = "Letters written as a base and a separate accent are kept; a tokenizer makes other tokens of them"


def tidy(text: str) -> str:
    """The text without invisible characters at its ends."""
    kept = text.strip()
    if kept.isascii():
        return kept
    unseen = UNSEEN.match(text)
    kept = text[unseen.end() if unseen else 0 :]
    while kept and UNSEEN.fullmatch(kept[-1]) and not _spells(kept):
        kept = kept[:-1]
    return kept


def fault(text: str) -> str:
    """The reason why a tidy text is unfit for a fact, to follow the name of the field; empty where it is fit."""
    match = BROKEN.search(text)
    if match is None:
        return ""
    mark = match[0]
    if mark == "\ufffd":
        return "holds U+FFFD, which stands where a program could not read a character"
    if "\ud800" <= mark <= "\udfff":
        return "holds half a Unicode character (a lone surrogate)"
    if unicodedata.category(mark) == "Cc":
        return f"holds a control character ({shown(mark)})"
    return f"holds {_named(mark)} inside, an invisible character that gives the text other tokens; delete it"


def remarks(text: str, kept: str) -> Iterator[tuple[str, str]]:
    """Remarks for the reader on a text and what was kept of it: a sentence, and the characters that it is about."""
    if len(kept) < len(text) and (off := [mark for mark in text.replace(kept, "", 1) if mark not in USUAL]):
        yield TAKEN_OFF, ", ".join(map(_named, dict.fromkeys(off)))
    if kept.isascii():
        return
    if blanks := OTHER_BLANK.findall(kept):
        yield BLANKS_KEPT, ", ".join(map(_named, dict.fromkeys(blanks)))
    if not unicodedata.is_normalized("NFC", kept):
        yield ACCENTS_KEPT, shown(kept, 40)


def _spells(text: str) -> bool:
    """Whether a joiner at the end of a text belongs to its last letter."""
    return len(text) > 1 and text[-1] in JOINERS and unicodedata.combining(text[-2]) == VIRAMA


def _named(mark: str) -> str:
    return f"U+{ord(mark):04X}"
