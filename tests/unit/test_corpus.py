"""Text sources for C: the built-in corpus, text files, and what the fingerprint depends on."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kis_core import corpus
from kis_core.corpus import Corpus, CorpusError


def test_the_builtin_corpus_is_the_same_each_time_and_holds_no_blank_document() -> None:
    first, second = corpus.load("builtin"), corpus.builtin()
    assert first.fingerprint == second.fingerprint
    assert len(first.documents) > 1
    assert all(document.strip() for document in first.documents)


def test_a_text_file_gives_one_document_a_line(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("\ufeffFirst, ü.\r\n\r\n  \nSecond line.\u2028Still second.\n\tThird\n".encode())
    loaded = corpus.load(path)
    assert loaded == Corpus("text.txt", ("First, ü.", "Second line.\u2028Still second.", "\tThird"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Z\xfcrich", "text.txt is not UTF-8 text .* Save it as UTF-8"),
        (b"", "text.txt holds no text"),
        (b" \r\n\n\t", "text.txt holds no text"),
    ],
)
def test_a_file_without_readable_text_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        corpus.load(str(path))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    for absent in (tmp_path / "absent.txt", tmp_path):
        with pytest.raises(CorpusError, match=r"No corpus file at .* Give `builtin` or a text file"):
            corpus.load(absent)


documents = st.lists(st.text(st.characters(), min_size=1, max_size=4), max_size=4).map(tuple)


@settings(max_examples=50, deadline=None)
@given(documents, documents)
def test_fingerprints_are_equal_only_for_equal_documents(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert (Corpus("a", one).fingerprint == Corpus("b", other).fingerprint) == (one == other)


def test_the_fingerprint_knows_where_documents_end_and_in_which_order_they_come() -> None:
    variants = [("ab", "c"), ("a", "bc"), ("abc",), ("c", "ab")]
    assert len({Corpus("text", variant).fingerprint for variant in variants}) == len(variants)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "/"])
def test_a_name_no_file_can_have_is_refused_politely(name: str) -> None:
    with pytest.raises(CorpusError, match="No "):
        corpus.load(name)
