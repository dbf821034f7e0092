"""`export` and `import`: the store, or one model's part of it, as a file for another machine."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kis_core.analysis.resolve import SECOND_MOMENT
from kis_core.commands.line import ProgressLine
from kis_core.covariance import rome_files
from kis_core.library import bundles, inventory
from kis_core.request import RequestError
from kis_core.store.store import Store
from kis_core.wording import counted

NO_BUNDLE = (
    "`import` reads bundles, which `export` writes. A ROME .npz file, or a folder of them, is read where text would "
    "be: analyse --corpus DIR"
)


def add(commands: Any) -> None:
    """Add the commands to the parser."""
    summary = "write what is stored to one file, to import on another machine"
    export = commands.add_parser("export", help=summary, description=summary)
    export.add_argument("--out", required=True, type=Path, metavar="FILE")
    export.add_argument("--model", metavar="NAME", help="only what was computed for that model (all there is)")
    export.add_argument("--without-moments", action="store_true", help="leave out every C: far smaller, P is all there")
    export.set_defaults(command=_export)

    summary = "take in bundles from another machine"
    taken = commands.add_parser("import", help=summary, description=summary, epilog=NO_BUNDLE)
    taken.add_argument("files", nargs="+", metavar="FILE", type=Path)
    taken.set_defaults(command=_import)


def _export(args: argparse.Namespace, line: ProgressLine) -> Iterator[object]:
    from kis_core.store.leftovers import HEAD, PART

    store = Store()
    keys = _of_model(store, args.model) if args.model else {item.key for item in store.inventory()}
    left_out = {SECOND_MOMENT, HEAD, PART} if args.without_moments else set()
    portable = {key for key in keys if not inventory.of_this_machine(key) and key.rpartition("-")[0] not in left_out}
    chosen = {key for key in portable if inventory.in_cache(store, key)}
    if not chosen:
        raise RequestError(f"nothing to export is stored in {store.root}")
    size = bundles.export(store, chosen, args.out, report=line)
    yield f"{args.out}: {_values(len(chosen))}, {size:,} bytes"


def _of_model(store: Store, model: str) -> set[str]:
    """Everything that was computed for a model: results, every C, and runs of edits."""
    shelf = inventory.shelf(store)
    if keys := {key for row in shelf if row.model == model for key in row.keys}:
        return keys
    others = ", ".join(sorted({row.model for row in shelf if row.model})) or "nothing"
    raise RequestError(f"nothing of {model!r} is stored in {store.root}; found: {others}")


def _import(args: argparse.Namespace, line: ProgressLine) -> Iterator[object]:
    store = Store()
    for path in args.files:
        if rome_files.recognises(path):
            raise RequestError(f"{path} holds statistics and is no bundle. {NO_BUNDLE}")
        taken = bundles.load(store, path, report=line)
        yield f"{path}: {_values(taken.count)} came, {taken.bytes:,} bytes; {taken.skipped:,} there already"


def _values(count: int) -> str:
    return counted(count, "value")
