"""The command line: `python -m kis_core analyse …` and `python -m kis_core models`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from kis_core import export
from kis_core.errors import KisError
from kis_core.models import catalog
from kis_core.models.loading import DEVICES
from kis_core.pipeline import run
from kis_core.request import DEFAULT_TOKENS, Request, RequestError
from kis_core.store import Store

WRONG_INPUT = 2
INTERRUPTED = 130


class ProgressLine:
    """Progress on standard error: one line that moves on a terminal, one line a stage elsewhere."""

    def __init__(self) -> None:
        self._stage = ""
        self._moving = sys.stderr.isatty()
        self._began = time.monotonic()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show a stage and how far it is; a `kis_core.progress.Report`."""
        share = f"{done / total:4.0%}" if total else "    "
        if self._moving:
            sys.stderr.write(f"\r\x1b[K{time.monotonic() - self._began:6.1f} s  {share}  {stage}")
        elif stage != self._stage:
            sys.stderr.write(f"{time.monotonic() - self._began:6.1f} s  {stage}\n")
        self._stage = stage
        sys.stderr.flush()

    def close(self) -> None:
        """Leave the moving line behind."""
        if self._moving and self._stage:
            sys.stderr.write("\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 2 for wrong input, 130 when interrupted."""
    args = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        return int(args.command(args) or 0)
    except KisError as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(f"{error.strerror or error}: {error.filename}" if error.filename else str(error))
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; what was already computed is kept\n")
        return INTERRUPTED


def _refuse(message: str) -> int:
    sys.stderr.write(f"kis_core: {' '.join(message.splitlines())}\n")  # one line, even if transformers said more
    return WRONG_INPUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kis_core", description="Knowledge superposition, measured.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    analyse = commands.add_parser("analyse", help="compute P of a model and a fact set, and write it to files")
    analyse.add_argument("--model", required=True, metavar="NAME_OR_DIR", help="catalogue name, Hub id or local folder")
    analyse.add_argument("--facts", required=True, metavar="builtin|FILE", help="CSV or CounterFact JSON")
    analyse.add_argument("--corpus", required=True, metavar="builtin|FILE", help="text file, one document a line")
    analyse.add_argument("--layers", default="all", metavar="all|0,2", help="default all")
    analyse.add_argument("--tokens", type=int, default=DEFAULT_TOKENS, help="corpus tokens behind C (%(default)s)")
    analyse.add_argument("--device", choices=DEVICES, default="auto")
    analyse.add_argument("--out", required=True, type=Path, metavar="DIR")
    analyse.set_defaults(command=_analyse)

    models = commands.add_parser("models", help="list the models known by name")
    models.set_defaults(command=_models)
    return parser


def _analyse(args: argparse.Namespace) -> None:
    request = Request(args.model, args.facts, args.corpus, args.tokens, _layers(args.layers))
    standing = next(path for path in (args.out, *args.out.absolute().parents) if path.exists())
    if not standing.is_dir():
        raise RequestError(f"{standing} is a file; --out names a folder")
    line = ProgressLine()
    try:
        result = run(request, Store(), device=args.device, report=line)
    finally:
        line.close()
    for issue in result.facts.issues:
        sys.stderr.write(f"left out row {issue.row}: {issue.reason}\n")
    for path in export.write(result, args.out):
        sys.stdout.write(f"{path}\n")


def _layers(text: str) -> tuple[int, ...] | None:
    if text == "all":
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise RequestError(f"--layers takes `all` or numbers such as 0,2; found {text!r}") from None


def _models(args: argparse.Namespace) -> None:
    columns = ("name", "family", "parameters", "layers", "d", "d_m", "where")
    rows = [
        (
            entry.name, entry.family, f"{entry.parameters / 1e6:,.2f} M", str(entry.layers), str(entry.width),
            str(entry.mlp_width), "embedded" if entry.folder else entry.source + (" (gated)" if entry.gated else ""),
        )
        for entry in catalog.entries()
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    sys.exit(main())
