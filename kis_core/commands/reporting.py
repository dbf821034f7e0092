"""`report`: a result as one HTML file that opens from disk."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kis_core import facts
from kis_core.analysis.pipeline import run, text_here
from kis_core.commands import options
from kis_core.commands.line import ProgressLine
from kis_core.corpora import BUILTIN_NAME, CorpusError
from kis_core.models.files import ModelError
from kis_core.request import Request, RequestError
from kis_core.results import archive, caveats
from kis_core.results.result import Result
from kis_core.store.store import Store


def add(commands: Any) -> None:
    """Add the command to the parser."""
    summary = "write P, its edits and its runs to one HTML file that opens from disk, without a server or a network"
    report = commands.add_parser("report", help=summary, description=summary)
    options.add_model(report)
    options.add_facts(report)
    options.add_text(report, corpus=BUILTIN_NAME, tokens=options.few_tokens())
    report.add_argument("--layers", default=options.ALL, metavar="all|0,2", help="default all")
    report.add_argument("--out", required=True, type=Path, metavar="FILE", help="such as report.html")
    report.set_defaults(command=_report)


def _report(args: argparse.Namespace, line: ProgressLine) -> Iterator[object]:
    from kis_core import report

    request = options.request_of(args, layers=options.chosen_layers(args.layers))
    if args.out.is_dir():
        raise RequestError(f"{args.out} is a folder; --out names a file, such as {args.out / 'report.html'}")
    line.say_of(facts.load(args.facts))
    store = Store()
    result = _result(request, store, args.device, line)
    line.warn(caveats.of_result(result))
    size = report.write(result, store, args.out, line)
    yield f"{args.out}: {size:,} bytes"


def _result(request: Request, store: Store, device: str, line: ProgressLine) -> Result:
    """The result of a request: stored, or computed now; of a model or text that is not here, what is stored of it."""
    try:
        return run(request, store, device=device, report=line)
    except (ModelError, CorpusError):
        stored = archive.without_model(request, store, text_here(request.corpus, store))
        if stored is None or request.layers not in (None, stored.layers):
            raise
        return stored
