"""The command line: `python -m kis_core analyse|edit|study|lifelong|forgetting|models …`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kis_core import export
from kis_core.corpora import BUILTIN_NAME as BUILTIN_CORPUS
from kis_core.errors import KisError
from kis_core.facts import BUILTIN_NAME as BUILTIN_FACTS
from kis_core.models import catalog
from kis_core.models.loading import DEVICES
from kis_core.pipeline import run
from kis_core.request import DEFAULT_TOKENS, Request, RequestError
from kis_core.store import Store

WRONG_INPUT = 2
SEARCH_OPTIONS: dict[str, tuple[type, str]] = {
    "steps": (int, "of Adam, at most"),
    "learning_rate": (float, "of Adam"),
    "weight_decay": (float, "factor of the size of δ"),
    "kl": (float, "factor of the drift of what is said of the subject"),
    "clamp": (float, "δ is at most this many times the old value"),
    "seed": (int, "of the random beginnings of the prompt"),
}
SEARCH_SWITCHES = {
    "mean_key": "ROME's left side takes the mean key over contexts, as its code does",
    "everywhere": "while searching, δ acts on every token by its share, as the edit will",
}
ALL_METHODS = ("rome", "r-rome", "identity", "memit", "alphaedit", "fine-tuning")
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

    edit = commands.add_parser("edit", help="edit one fact in memory; write what was foretold and measured for all")
    edit.add_argument("--model", required=True, metavar="NAME_OR_DIR", help="catalogue name, Hub id or local folder")
    edit.add_argument("--layer", required=True, type=int)
    edit.add_argument("--fact", required=True, type=int, metavar="INDEX", help="of the fact set, from 0")
    edit.add_argument("--target", required=True, metavar="TEXT", help="the new object")
    edit.add_argument("--method", default="rome", choices=("rome", "r-rome", "identity"), help="default %(default)s")
    edit.add_argument("--strength", type=float, default=1.0, help="of the edit, 0 to 1.5 (%(default)s)")
    _add_sources(edit)
    search = edit.add_argument_group("search for the value", "defaults suit the model")
    for name, (kind, text) in SEARCH_OPTIONS.items():
        search.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text)
    for name, text in SEARCH_SWITCHES.items():
        search.add_argument(f"--{name.replace('_', '-')}", action=argparse.BooleanOptionalAction, help=text)
    edit.set_defaults(command=_edit)

    study = commands.add_parser("study", help="many edits in every layer: how often they take, which forecast is best")
    study.add_argument("--models", default=",".join(entry.name for entry in catalog.demo()), metavar="A,B,…")
    study.add_argument("--facts", default=BUILTIN_FACTS, metavar="builtin|FILE", help="CSV or CounterFact JSON")
    study.add_argument("--edits", type=int, default=50, help="a layer (%(default)s)")
    study.add_argument("--method", default="rome", choices=("rome", "r-rome", "identity"), help="default %(default)s")
    study.add_argument("--seed", type=int, default=0)
    for name, text in SEARCH_SWITCHES.items():
        study.add_argument(f"--{name.replace('_', '-')}", action=argparse.BooleanOptionalAction, help=text)
    study.add_argument("--device", choices=DEVICES, default="auto")
    study.add_argument("--out", required=True, type=Path, metavar="DIR")
    study.set_defaults(command=_study)

    sequence = commands.add_parser(
        "lifelong", help="edit after edit; write what was foretold and measured at every step"
    )
    sequence.add_argument(
        "--model", required=True, metavar="NAME_OR_DIR", help="catalogue name, Hub id or local folder"
    )
    sequence.add_argument("--layer", required=True, metavar="L|L-L", help="one, or a range for memit and alphaedit")
    sequence.add_argument("--method", default="rome", choices=ALL_METHODS, help="default %(default)s")
    sequence.add_argument("--edits", type=int, default=100, help="how many (%(default)s)")
    sequence.add_argument("--every", type=int, default=5, help="edits between two measurements (%(default)s)")
    sequence.add_argument("--batch", type=int, help="edits made at once, for memit and alphaedit (5)")
    sequence.add_argument("--seed", type=int, default=0, help="of the choice of edits (%(default)s)")
    sequence.add_argument("--draw", default="random", choices=("random", "relation", "most", "least"),
                          help="which edits: at random, of relations, most or least superposed first")  # fmt: skip
    sequence.add_argument("--relations", default="", metavar="A,B", help="for --draw relation; all by default")
    sequence.add_argument("--order", default="drawn", choices=("drawn", "gentle", "harsh"),
                          help="as drawn, or by forecast interference")  # fmt: skip
    _add_sources(sequence)
    sequence.set_defaults(command=_lifelong)

    forgetting = commands.add_parser("forgetting", help="many sequences: how fast models forget, and was it foretold?")
    forgetting.add_argument("--models", default=",".join(entry.name for entry in catalog.demo()), metavar="A,B,…")
    forgetting.add_argument("--facts", default=BUILTIN_FACTS, metavar="builtin|FILE", help="CSV or CounterFact JSON")
    forgetting.add_argument("--edits", type=int, default=100, help="at most, in one run (%(default)s)")
    forgetting.add_argument("--every", type=int, default=10, help="edits between two measurements (%(default)s)")
    forgetting.add_argument("--seeds", type=int, default=3, help="runs of each kind (%(default)s)")
    forgetting.add_argument("--methods", default=",".join(ALL_METHODS), metavar="A,B,…")
    forgetting.add_argument("--layers", default="all", metavar="all|0,2", help="default all but the last")
    forgetting.add_argument("--device", choices=DEVICES, default="auto")
    forgetting.add_argument("--out", required=True, type=Path, metavar="DIR")
    forgetting.set_defaults(command=_forgetting)

    models = commands.add_parser("models", help="list the models known by name")
    models.set_defaults(command=_models)
    return parser


def _add_sources(parser: argparse.ArgumentParser) -> None:
    """Where facts, text and files are, for commands that edit."""
    parser.add_argument("--facts", default=BUILTIN_FACTS, metavar="builtin|FILE", help="CSV or CounterFact JSON")
    parser.add_argument("--corpus", default=BUILTIN_CORPUS, metavar="builtin|FILE", help="text, one document a line")
    parser.add_argument("--tokens", type=int, default=DEFAULT_TOKENS, help="corpus tokens behind C (%(default)s)")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR")


def _folder(path: Path) -> Path:
    standing = next(path for path in (path, *path.absolute().parents) if path.exists())
    if not standing.is_dir():
        raise RequestError(f"{standing} is a file; --out names a folder")
    return path


def _analyse(args: argparse.Namespace) -> None:
    request = Request(args.model, args.facts, args.corpus, args.tokens, _layers(args.layers))
    _folder(args.out)
    line = ProgressLine()
    try:
        result = run(request, Store(), device=args.device, report=line)
    finally:
        line.close()
    for issue in result.facts.issues:
        sys.stderr.write(f"left out row {issue.row}: {issue.reason}\n")
    for path in export.write(result, args.out):
        sys.stdout.write(f"{path}\n")


def _edit(args: argparse.Namespace) -> None:
    from kis_core import simulator

    if not 0 <= args.strength <= simulator.MOST_STRENGTH:
        raise RequestError(f"the strength has to lie between 0 and {simulator.MOST_STRENGTH}; found {args.strength}")
    request = Request(args.model, args.facts, args.corpus, args.tokens)
    _folder(args.out)
    store, line = Store(), ProgressLine()
    how = {name: getattr(args, name) for name in (*SEARCH_OPTIONS, *SEARCH_SWITCHES)}
    try:
        result = run(request, store, device=args.device, report=line)
        bench = simulator.of(result, store, device=args.device)
        asked = bench.request(args.fact, args.target, args.layer, args.method, **_given(how))
        bench.prepare(asked, report=line)
        line("Measuring every fact", 0, 1)
        written = simulator.write(bench, asked, args.strength, args.out)
    finally:
        line.close()
    for path in written:
        sys.stdout.write(f"{path}\n")


def _study(args: argparse.Namespace) -> None:
    from kis_core import study

    _folder(args.out)
    how = _given({name: getattr(args, name) for name in SEARCH_SWITCHES})
    line = ProgressLine()
    try:
        written = study.run(
            args.models.split(","), args.out, facts=args.facts, edits=args.edits, method=args.method, seed=args.seed,
            how=how, device=args.device, store=Store(), report=line,
        )  # fmt: skip
    finally:
        line.close()
    for path in written:
        sys.stdout.write(f"{path}\n")


def _lifelong(args: argparse.Namespace) -> None:
    from kis_core import lifelong, simulator

    request = Request(args.model, args.facts, args.corpus, args.tokens)
    layers = _range(args.layer)
    relations = tuple(name for name in args.relations.split(",") if name)
    draw = lifelong.Draw(args.draw, args.seed, relations, order=args.order)
    _folder(args.out)
    store, line = Store(), ProgressLine()
    try:
        bench = simulator.of(run(request, store, device=args.device, report=line), store, device=args.device)
        asked = lifelong.ask(bench, layers, args.method, args.edits, draw, every=args.every, batch=args.batch)
        film = lifelong.run(bench, asked, report=line)
        written = lifelong.write(bench, asked, film, args.out)
    finally:
        line.close()
    for path in written:
        sys.stdout.write(f"{path}\n")


def _forgetting(args: argparse.Namespace) -> None:
    from kis_core.lifelong import study

    _folder(args.out)
    line = ProgressLine()
    try:
        written = study.run(
            args.models.split(","), args.out, facts=args.facts, edits=args.edits, every=args.every, seeds=args.seeds,
            methods=args.methods.split(","), layers=_layers(args.layers), device=args.device, store=Store(),
            report=line,
        )  # fmt: skip
    finally:
        line.close()
    for path in written:
        sys.stdout.write(f"{path}\n")


def _range(text: str) -> tuple[int, ...]:
    ends = text.split("-")
    if not (1 <= len(ends) <= 2 and all(end.isdecimal() for end in ends)) or int(ends[0]) > int(ends[-1]):
        raise RequestError(f"--layer takes a number or a range such as 0-2; found {text!r}")
    return tuple(range(int(ends[0]), int(ends[-1]) + 1))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


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
