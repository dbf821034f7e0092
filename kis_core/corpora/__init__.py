"""Text for the second moment C: documents in a fixed order, streamed, their fingerprint, and a record of those read."""

from kis_core.corpora.corpus import Corpus, CorpusError, Texts
from kis_core.corpora.reading import DocumentsRead
from kis_core.corpora.sources import BUILTIN_NAME, WIKIPEDIA_NAME, builtin, load
from kis_core.corpora.wikipedia import PAPER_DOCUMENTS, Wikipedia
