"""The corpus that a user names."""

from __future__ import annotations

from pathlib import Path

from kis_core.corpora import files
from kis_core.corpora.corpus import Corpus, CorpusError, Texts
from kis_core.corpora.wikipedia import Wikipedia
from kis_core.files.paths import is_file

BUILTIN_NAME = "builtin"
WIKIPEDIA_NAME = "wikipedia"


def builtin() -> Texts:
    """The demo family's training text and the sentences it was never trained on, shuffled into short documents."""
    from kis_core.demo import text

    return Texts(BUILTIN_NAME, text.documents())


def load(source: str | Path) -> Corpus:
    """`"builtin"`, `"wikipedia"`, a file (see `files`), or a folder of parquet files, read in the order of their names.

    This is cheap: only the beginning of a file is read, and nothing of Wikipedia.

    Raises:
        CorpusError: there is no such file, its first document cannot be read, or it holds no text.
    """
    if source == BUILTIN_NAME:
        return builtin()
    if source == WIKIPEDIA_NAME:
        return Wikipedia(WIKIPEDIA_NAME)
    path = Path(source)
    paths = (path,) if is_file(path) else files.shards(path)
    if not paths:
        raise CorpusError(
            f"No corpus file at {path}. Give `{BUILTIN_NAME}`, `{WIKIPEDIA_NAME}`, a text file with one document a "
            "line, JSON lines, a parquet file, or a folder of parquet files."
        )
    corpus = files.Files(path.resolve().name, paths)
    if next(corpus.documents(), None) is None:
        raise CorpusError(f"{corpus.name} holds no text.")
    return corpus
