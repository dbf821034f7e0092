"""English Wikipedia of 1 November 2023, streamed from the Hugging Face Hub.

The paper took C over 100,000 articles of the dump of March 2022 (Hu et al., arXiv 2408.07413). That dataset
came as a script, which `datasets` no longer runs. This is the nearest one that still loads, at a pinned commit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kis_core.corpora.corpus import Corpus, CorpusError

DATASET = "wikimedia/wikipedia"
CONFIGURATION = "20231101.en"
REVISION = "b04c8d1ceb2f5cd4588862100d08de323dccfbaa"
SPLIT = "train"
PAPER_DOCUMENTS = 100_000


@dataclass(frozen=True)
class Wikipedia(Corpus):
    """Articles in the order of the dump; only the part that is read is downloaded."""

    def documents(self) -> Iterator[str]:
        """Text of the articles.

        Raises:
            CorpusError: no connection, or it broke; says after how many documents, and what to do offline.
        """
        read = 0
        try:
            for row in _rows():
                if (text := row["text"] or "").strip():
                    read += 1
                    yield text
        except Exception as error:  # whatever the network, and the libraries between it and here, may raise
            raise CorpusError(_broken_off(read, error)) from error

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what is pinned: dataset, configuration, commit and split."""
        return hashlib.sha256(json.dumps([DATASET, CONFIGURATION, REVISION, SPLIT, "text"]).encode()).hexdigest()


def _rows() -> Iterator[dict[str, Any]]:
    import datasets

    return iter(datasets.load_dataset(DATASET, CONFIGURATION, split=SPLIT, streaming=True, revision=REVISION))


def _broken_off(read: int, error: Exception) -> str:
    what = f"broke off after {read:,} documents" if read else "cannot be reached"
    return (
        f"Wikipedia ({DATASET}, {CONFIGURATION}) {what}: {str(error) or type(error).__name__}. Connect to the internet "
        f"and try again; or, where there is a connection, run `hf download {DATASET} --repo-type dataset --revision "
        f"{REVISION} --include '{CONFIGURATION}/*' --local-dir wikipedia`, copy the folder here, and give "
        f"wikipedia/{CONFIGURATION} as the corpus."
    )
