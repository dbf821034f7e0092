"""What a stored value must be: every kind by its name, and the check of a value.

Everything that is read from a store or a bundle is held against this before anybody uses it. Kinds that are not named
here are opened by nobody, and taken as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from kis_core.store import schema_of_edits, schema_of_results
from kis_core.store.schema_of_results import checked_request
from kis_core.store.shapes import Kind, Misfit, check_arrays, fields, list_of, sha256, table, text, whole

__all__ = ["KINDS", "Misfit", "check", "check_meta", "of_another_version"]

HEAD_META = table(
    {
        "place": table({"tokens": whole()}, more=True),
        "moment": text,
        "names": list_of(text),
        "about": table(
            {},
            {"layers": list_of(whole()), "rank": whole(), "world": whole(1), "of": text, "moments": list_of(text)},
            more=True,
        ),
    },
    more=True,
)
KINDS: dict[str, Kind] = (
    schema_of_results.KINDS
    | schema_of_edits.KINDS
    | {
        "fingerprint": Kind(table({"sha256": sha256}, more=True)),
        "asked": Kind(table({"request": checked_request, "device": text}, more=True)),
        "unfinished": Kind(HEAD_META),
        "unfinished-part": Kind(table(fields(text, "of moment name"), more=True), None),
    }
)


def check_meta(kind: str, meta: Mapping[str, Any]) -> None:
    """Hold metadata against what it must be.

    Raises:
        Misfit: it is something else; the message says what.
    """
    if known := KINDS.get(kind):
        if of_another_version(kind, meta):
            raise Misfit(f"it is of format {str(meta.get('format'))[:20]!r}; this version reads {known.format}")
        known.meta(meta, "")


def check(
    kind: str,
    meta: Mapping[str, Any],
    arrays: Iterable[tuple[str, np.ndarray]],
    sizes: Mapping[str, int] | None = None,
) -> None:
    """Hold a value against what it must be.

    Args:
        kind: see `store.key_of`.
        meta: its metadata.
        arrays: name and array, which need not all lie in memory.
        sizes: lengths of axes, as far as they are known beforehand.

    Raises:
        Misfit: it is something else; the message says what.
    """
    check_meta(kind, meta)
    known = KINDS.get(kind)
    if known is not None and known.arrays is not None:
        lengths = known.sizes(meta)
        for axis, length in (sizes or {}).items():
            if lengths.setdefault(axis, length) != length:
                raise Misfit(f"it has {axis} = {lengths[axis]}; {length} was expected")
        known.more(meta, check_arrays(known, arrays, lengths), lengths)


def of_another_version(kind: str, meta: Mapping[str, Any]) -> bool:
    """Whether a value says that it is of a format that this version does not read."""
    known = KINDS.get(kind)
    return known is not None and known.format is not None and meta.get("format") != known.format
