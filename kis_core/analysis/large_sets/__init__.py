"""Thousands of facts at one layer: one sweep over P in blocks, and what it tells; P is never there whole."""

from kis_core.analysis.large_sets.analysis import (
    KEYS,
    KIND,
    KNOWN,
    STAGES,
    LargeSet,
    NothingKnown,
    arrays,
    find,
    key,
    run,
)

__all__ = ["KEYS", "KIND", "KNOWN", "STAGES", "LargeSet", "NothingKnown", "arrays", "find", "key", "run"]
