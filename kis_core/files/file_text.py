"""Bytes of a file as text, or a refusal that says what the file is.

Text read in the wrong encoding is other text, whose subjects have other keys. So UTF-8 is read, and UTF-16 and UTF-32
where a byte order mark names them. Windows-1252, which spreadsheets of western Europe still write, is assumed only
where nothing speaks against it, and a note says so. All other files are refused.
"""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

from kis_core.errors import shown

MARKS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
AS_CSV, UNPACK, ANOTHER = "Save its table as “CSV UTF-8”.", "Unpack it first.", "Choose the file that holds the table."
PICKLE, WEB = (
    ("a Python pickle", "It is never opened; save its table as CSV."),
    ("a web page", "Download the file itself."),
)
KINDS = {
    b"PK\x03\x04": ("a ZIP archive, as Excel workbooks are", "Let a workbook’s name end in .xlsx; unpack an archive."),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("an Office file (.xls, .doc)", AS_CSV),
    b"PAR1": ("a parquet file", "Let its name end in .parquet."),
    b"\x1f\x8b": ("a gzip file", UNPACK),
    b"BZh": ("a bzip2 file", UNPACK),
    b"\xfd7zXZ\x00": ("an xz file", UNPACK),
    b"\x28\xb5\x2f\xfd": ("a Zstandard file", UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", UNPACK),
    b"Rar!\x1a\x07": ("a RAR archive", UNPACK),
    b"%PDF-": ("a PDF file", AS_CSV),
    b"SQLite format 3\x00": ("an SQLite database", AS_CSV),
    b"\x93NUMPY": ("a NumPy array", AS_CSV),
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file", AS_CSV),
    b"ARROW1": ("an Arrow file", AS_CSV),
    b"\x80\x02": PICKLE,
    b"\x80\x03": PICKLE,
    b"\x80\x04": PICKLE,
    b"\x80\x05": PICKLE,
    b"\x89PNG\r\n\x1a\n": ("a picture", ANOTHER),
    b"\xff\xd8\xff": ("a picture", ANOTHER),
    b"GIF8": ("a picture", ANOTHER),
    b"\x7fELF": ("a program", ANOTHER),
    b"version https://git-lfs": ("a pointer of Git LFS, which stands for the file", "Fetch it: git lfs pull."),
    b"<!doctype html": WEB,
    b"<html": WEB,
}
"""The first bytes of files that are no text, what they are, and what to do; web pages in upper or lower case."""

CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
LETTER = r"[^\W\d_]"
NOT_WESTERN = re.compile(
    "[^\x00-\x7f“”‘’‚„‹›«»–—…•\xa0]{4}"  # every word of Cyrillic, Greek or Chinese; western spelling has three at most
    "|[ƒŸ]"  # Japanese syllables, a Polish and a Macintosh letter
    f"|(?<={LETTER})[ˆ˜‰†‡™¤¦¨¬¯¸¶§±²³¹¼½¾×÷](?={LETTER})|£(?={LETTER})"  # letters of Poland, or of the Macintosh
)
"""Sequences that western text does not have, but text of another encoding has when it is read as Windows-1252."""
SAVE = "Save it as UTF-8; in Excel: “CSV UTF-8”."


class NotText(ValueError):
    """The bytes are no text that can be read with certainty; the message follows the file's name."""


class FileText(NamedTuple):
    """The text of a file.

    Attributes:
        text: without byte order mark.
        note: a sentence about an assumption; empty where there was none.
    """

    text: str
    note: str = ""


def read(data: bytes) -> FileText:
    """The text of a file.

    Raises:
        NotText: says what the file is, or which byte in which line is no text.
    """
    if known := kind(data):
        raise NotText("is {}, not text. {}".format(*known))
    marked = next((encoding for mark, encoding in MARKS if data.startswith(mark)), None)
    if marked is None and b"\x00" in data[:4]:
        raise NotText(f"begins with zero bytes, as UTF-16 and UTF-32 without a byte order mark do. {SAVE}")
    try:
        return FileText(data.decode(marked or "utf-8"))
    except UnicodeDecodeError as error:
        fault = error
    where = f"byte 0x{fault.object[fault.start]:02X} in line {_line(fault)}"
    if marked:
        raise NotText(f"is {marked.removesuffix('-sig').upper()} with a fault: {where}. Mend the character there.")
    western = _windows(data, where)
    if western is None:
        raise NotText(f"is not UTF-8 throughout: {where}. {SAVE} If it is UTF-8, mend the character there.")
    return western


def kind(data: bytes) -> tuple[str, str] | None:
    """The kind of a file that is no text, and what to do, by its first bytes; None where it may be text."""
    head = data[:64]
    plain = head.lstrip().lower()  # only web pages begin with a blank, or in any case of letters
    for begin, known in KINDS.items():
        if head.startswith(begin) or (begin.startswith(b"<") and plain.startswith(begin)):
            return known
    return None


def _windows(data: bytes, where: str) -> FileText | None:
    """The text in Windows-1252, or None if anything speaks against it; `where` is the byte that is not UTF-8."""
    if not data.decode("utf-8", errors="ignore").isascii():
        return None  # it has letters in UTF-8, which is no accident: a single character is damaged
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return None
    if CONTROL.search(text) or NOT_WESTERN.search(text):
        return None
    word = re.search(r"[^\s,;\"]*[^\x00-\x7f][^\s,;\"]*", text)
    example = f", where it says “{shown(word[0], 40)}”" if word else ""
    assumed = f"The file is not UTF-8 ({where}) and was read as Windows-1252{example}."
    return FileText(text, f"{assumed} If that is not what was meant, save it as UTF-8.")


def _line(fault: UnicodeDecodeError) -> int:
    """Number of the line, from 1, that a byte is in."""
    before = fault.object[: fault.start].decode(fault.encoding, errors="ignore")
    return len(re.findall(r"\r\n|\r|\n", before)) + 1
