"""Text sources for C: built-in, files, Wikipedia; what the fingerprint depends on; the record of what was read."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kis_core import corpora
from kis_core.corpora import CorpusError, DocumentsRead, Texts, files, wikipedia

LITTLE = 8_000_000  # bytes; the big file has 20 million
THREE = ("First, ü.", "Second line.\u2028Still second.", "\tThird")


def write_parquet(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def read(path: Path) -> tuple[str, ...]:
    return tuple(corpora.load(path).documents())


def fault(path: Path) -> str:
    with pytest.raises(CorpusError) as caught:
        read(path)
    return str(caught.value)


class TestFiles:
    def containers(self, folder: Path) -> Iterator[Path]:
        """The same three documents, and blank ones, in every container that is read."""
        text = "\ufeffFirst, ü.\r\n\r\n  \nSecond line.\u2028Still second.\n\tThird\n".encode()
        column: list[str | None] = [THREE[0], None, "", *THREE[1:]]
        records = "\n".join(json.dumps({"id": "7", "text": text}) for text in (" ", *column)).encode()
        (folder / "text.txt").write_bytes(text)
        (folder / "plain").write_bytes(text)
        (folder / "text.TXT.gz").write_bytes(gzip.compress(text))
        for name in ("a.jsonl", "a.ndjson", "a.json"):
            (folder / name).write_bytes(records + b"\n \n")
        (folder / "a.jsonl.gz").write_bytes(gzip.compress(records))
        (folder / "only.jsonl").write_text("\n".join(json.dumps({"n": 1, "body": text}) for text in THREE))
        write_parquet(folder / "a.parquet", {"id": list("12345"), "text": column})
        write_parquet(folder / "small.parquet", {"text": column}, row_group_size=2)
        write_parquet(folder / "only.parquet", {"n": range(5), "body": pa.array(column, pa.large_string())})
        yield from sorted(folder.iterdir())

    def test_the_same_documents_in_any_container_are_the_same_corpus(self, tmp_path: Path) -> None:
        actual = {path.name: corpora.load(path) for path in self.containers(tmp_path)}
        assert len(actual) == 11
        assert corpora.load("builtin").fingerprint == corpora.builtin().fingerprint
        assert all(document.strip() for document in corpora.builtin().documents())
        for name, corpus in actual.items():
            assert tuple(corpus.documents()) == tuple(corpus.documents()) == THREE, name
            assert (corpus.name, corpus.fingerprint) == (name, Texts("", THREE).fingerprint)

    def test_a_folder_of_parquet_files_is_read_in_the_order_of_their_names(self, tmp_path: Path) -> None:
        for number in (10, 2, 1):
            write_parquet(tmp_path / f"train-{number:05}.parquet", {"text": [f"{number} a", f"{number} b"]})
        (tmp_path / "README.md").write_text("not a shard")
        corpus = corpora.load(str(tmp_path))
        assert list(corpus.documents()) == ["1 a", "1 b", "2 a", "2 b", "10 a", "10 b"]
        assert [Path(path).name[6:11] for path, *_ in corpus.stamp or ()] == ["00001", "00002", "00010"]

    def test_the_stamp_changes_with_the_file_and_only_then(self, tmp_path: Path) -> None:
        path = tmp_path / "text.txt"
        path.write_text("One.\n")
        os.utime(path, ns=(10, 20))
        corpus = corpora.load(path)
        assert corpus.stamp == ((str(path.resolve()), 5, 20),) == corpora.load(str(path)).stamp
        path.write_text("Two.\n")
        assert corpus.stamp != ((str(path.resolve()), 5, 20),)
        path.unlink()
        with pytest.raises(CorpusError, match=r"text.txt is no longer there"):
            assert corpus.stamp
        with pytest.raises(CorpusError, match=r"text.txt cannot be read: .*No such file"):
            list(corpus.documents())

    @pytest.mark.parametrize("kind", ["txt", "jsonl", "parquet"])
    def test_a_big_file_never_lies_in_memory(self, tmp_path: Path, kind: str) -> None:
        document, count, path = "x" * 10_000, 2_000, tmp_path / f"big.{kind}"
        if kind == "parquet":
            write_parquet(path, {"text": [f"{k}{document}" for k in range(count)]}, row_group_size=100)
        else:
            line = json.dumps({"text": document}) if kind == "jsonl" else document
            path.write_text(f"{line}\n" * count)
        corpus = corpora.load(path)
        tracemalloc.start()
        try:
            assert sum(pa.total_allocated_bytes() < LITTLE for _ in corpus.documents()) == count
            assert tracemalloc.get_traced_memory()[1] < LITTLE
        finally:
            tracemalloc.stop()

    def test_a_broken_and_an_endless_line_are_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "text.txt").write_bytes(b"One.\nTwo.\nZ\xfcrich\n")
        documents = corpora.load(tmp_path / "text.txt").documents()
        assert [next(documents), next(documents)] == ["One.", "Two."]
        with pytest.raises(CorpusError, match=r"text.txt is not UTF-8 text \(line 3: .* Save it as UTF-8"):
            next(documents)
        monkeypatch.setattr(files, "MAX_LINE_BYTES", 5)
        (tmp_path / "fits.txt").write_text("12345\n")
        (tmp_path / "long.txt").write_text("1234\n123456")
        with pytest.raises(CorpusError, match="line 1 is longer"):
            read(tmp_path / "fits.txt")  # with its line feed it has six
        assert "long.txt, line 2 is longer than 5 bytes" in fault(tmp_path / "long.txt")


FAULTS: dict[str, tuple[bytes, str]] = {
    "latin.txt": (b"Z\xfcrich", "latin.txt is not UTF-8 text (line 1: "),
    "wide.txt": ("Zürich\n".encode("utf-16"), "wide.txt is UTF-16 or UTF-32 text. Save it as UTF-8."),
    "zeros.txt": ("Malta is\n".encode("utf-16-le"), "zeros.txt is UTF-16 or UTF-32 text. Save it as UTF-8."),
    "packed.txt": (gzip.compress(b"Malta"), "packed.txt is a gzip file, not text"),
    "empty.txt": (b"", "empty.txt holds no text"),
    "blank.txt": (b" \r\n\n\t", "blank.txt holds no text"),
    "cut.txt.gz": (gzip.compress(os.urandom(1000).hex().encode())[:-300], "cut.txt.gz cannot be read"),
    "array.json": (b'[\n{"text": "x"}\n]', "array.json, line 1: "),
    "line.jsonl": (b'{"text": "x"}\n{"text": }', "line.jsonl, line 2: Expecting value"),
    "deep.jsonl": (b"[" * 100_000, "deep.jsonl, line 1: "),
    "list.jsonl": (b'["x"]', "list.jsonl, line 1: found list instead of an object. One JSON object a line is expected"),
    "two.jsonl": (b'{"a": "x", "b": "y"}', "two.jsonl, line 1: no field `text`, nor a single field of strings"),
    "none.jsonl": (b"{}", "found none"),
    "number.jsonl": (b'\n{"text": 5}', "number.jsonl, line 2: field `text` is int, not a string"),
    "half.jsonl": (b'{"text": "\\ud83d"}', "surrogates not allowed"),
    "text.parquet": (b"Malta is an island.", "text.parquet is not a parquet file, or is damaged"),
}


def test_a_file_that_is_not_what_its_name_says_is_refused_with_place_and_reason(tmp_path: Path) -> None:
    for name, (content, message) in FAULTS.items():
        (tmp_path / name).write_bytes(content)
        assert message in fault(tmp_path / name), name
    columns = {"text": [1, 2], "title": ["a", "b"], "url": ["c", "d"]}
    message = fault(write_parquet(tmp_path / "a.parquet", columns))
    assert "a.parquet has no column `text` of strings" in message
    assert "found: text (" in message
    assert message.endswith("title (string), url (string)")


def test_damaged_parquet_tells_after_which_row(tmp_path: Path) -> None:
    texts = [f"{k} {os.urandom(500).hex()}" for k in range(1000)]
    path = write_parquet(tmp_path / "a.parquet", {"text": texts}, row_group_size=256, compression="gzip")
    content = path.read_bytes()
    begin, end = len(content) * 7 // 10, len(content) * 8 // 10  # in the third of four groups of rows
    path.write_bytes(content[:begin] + bytes(end - begin) + content[end:])
    assert "is damaged after row 512: " in fault(path)


def test_parquet_that_unpacks_to_too_much_is_refused_and_long_texts_are_read_few_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": ["0123456789" * 100] * 300})  # a dictionary of one text
    monkeypatch.setattr(files, "MOST_UNPACKED", 10_000)
    taken, batches = [], pq.ParquetFile.iter_batches

    def seen(self: pq.ParquetFile, *options: Any, **more: Any) -> Iterator[pa.RecordBatch]:
        for batch in batches(self, *options, **more):
            taken.append(batch.nbytes)
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", seen)
    assert len(read(path)) == 300
    assert max(taken) < 20_000
    monkeypatch.setattr(files, "MOST_UNPACKED", 900)
    assert "a page of it unpacks to 1,004 bytes; at most 900 are read" in fault(path)


def test_a_name_without_a_file_is_refused_politely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("x" * 5000, "a\0b", "/", "absent.txt", "."):
        with pytest.raises(
            CorpusError, match=r"No corpus file at .* Give `builtin`, `wikipedia`, a text file with one"
        ):
            corpora.load(name)


class TestWikipedia:
    @pytest.fixture
    def hub(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
        """A Hub that holds three articles and an empty one; the calls it got."""
        columns = {"id": list("1234"), "url": ["u"] * 4, "title": ["t"] * 4, "text": [THREE[0], " ", *THREE[1:]]}
        local, calls = write_parquet(tmp_path / "wiki.parquet", columns), []

        def load_dataset(*asked: Any, **how: Any) -> Any:
            calls.append((*asked, how))
            return original("parquet", data_files=str(local), split=how["split"], streaming=how["streaming"])

        original = datasets.load_dataset
        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return calls

    def test_gives_the_articles_of_one_pinned_commit(
        self, hub: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        corpus = corpora.load("wikipedia")
        assert corpus.name == "wikipedia"
        assert corpus.stamp is None
        assert corpus.fingerprint == corpora.load("wikipedia").fingerprint
        assert not hub, "nothing of it needs the network"
        assert tuple(corpus.documents()) == tuple(corpus.documents()) == THREE
        how = {"split": "train", "streaming": True, "revision": wikipedia.REVISION}
        assert hub == [("wikimedia/wikipedia", "20231101.en", how)] * 2
        assert len(wikipedia.REVISION) == 40
        actual = {corpus.fingerprint}
        for pinned in ("DATASET", "CONFIGURATION", "REVISION", "SPLIT"):
            monkeypatch.setattr(wikipedia, pinned, "other")
            actual.add(corpora.load("wikipedia").fingerprint)
        assert len(actual) == 5

    @pytest.mark.parametrize("error", [ConnectionError("no route"), TimeoutError(), KeyError(1)])
    def test_a_connection_that_breaks_says_where(self, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
        def rows() -> Iterator[dict[str, Any]]:
            yield from ({"text": text} for text in (THREE[0], None, THREE[1]))
            raise error

        def offline(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr(datasets, "load_dataset", offline)
        with pytest.raises(CorpusError, match=r"cannot be reached: .*--repo-type dataset.*give wikipedia/20231101\.en"):
            next(corpora.load("wikipedia").documents())
        monkeypatch.setattr(wikipedia, "_rows", rows)
        documents = corpora.load("wikipedia").documents()
        assert [next(documents), next(documents)] == list(THREE[:2])
        with pytest.raises(CorpusError, match="broke off after 2 documents") as caught:
            next(documents)
        assert (str(error) or type(error).__name__) in str(caught.value)


texts = st.lists(st.text(st.characters(), min_size=1, max_size=4), max_size=4).map(tuple)


@given(texts, texts)
def test_fingerprints_are_equal_only_for_equal_documents(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert (Texts("a", one).fingerprint == Texts("b", other).fingerprint) == (one == other)
    content = b"\1\0\0\0\0\0\0\0a\2\0\0\0\0\0\0\0\xc3\xbc"
    assert Texts("", ("a", "ü")).fingerprint == hashlib.sha256(content).hexdigest()


def reading(items: list[tuple[int, str]]) -> DocumentsRead:
    result = DocumentsRead()
    for index, document in items:
        result.add(index, document)
    return result


class TestReading:
    def test_by_hand(self) -> None:
        digests = [hashlib.sha256(k.to_bytes(8, "little") + t).digest() for k, t in ((0, b"ab"), (300, b"\xc3\xbc"))]
        total = sum(int.from_bytes(digest, "big") for digest in digests) % 2**256
        actual = reading([(0, "ab"), (300, "ü")])
        assert (actual.count, actual.characters, actual.digest) == (2, 3, f"{total:064x}")
        assert DocumentsRead().digest == "0" * 64

    @given(texts, st.randoms(use_true_random=False), st.data())
    def test_shared_work_adds_up_to_the_same_whole(self, all_of_it: tuple[str, ...], random: Any, data: Any) -> None:
        items = list(enumerate(all_of_it))
        whole = reading(items)
        random.shuffle(items)
        cut = data.draw(st.integers(0, len(items)))
        parts = reading(items[:cut]), reading(items[cut:])
        assert parts[0] + parts[1] == whole == DocumentsRead.from_json(json.loads(json.dumps(whole.to_json())))
