"""Options that several commands share, and the request they make."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path
from typing import Any

from kis_core.corpora import BUILTIN_NAME as BUILTIN_CORPUS
from kis_core.corpora import PAPER_DOCUMENTS, WIKIPEDIA_NAME
from kis_core.facts import BUILTIN_NAME as BUILTIN_FACTS
from kis_core.facts import FILES, RECORDS
from kis_core.models import catalog
from kis_core.models.loading import DEVICES, NUMBERED
from kis_core.request import DEFAULT_TOKENS, DTYPES, Request, RequestError

ALL = "all"
DEMO_MODELS = ",".join(entry.name for entry in catalog.demo())
MOST_COUNT = 10**12  # tokens or documents: more than all text there is
MOST_NUMBER = 10**6  # layers, facts, edits, steps: far beyond what is checked later, where more is known
MOST_SEED = 2**32 - 1  # every generator takes these
MOST_SEEDS = 1_000  # each is a run of its own
SHOWN = 40  # characters of what was typed, in a message
PREFIXES = r"\d{1,3}x\d{1,3}(,\d{1,3}x\d{1,3}){0,9}"
CORPUS = "wikipedia|builtin|FILE|DIR"
CORPUS_HELP = (
    "text, one document a line; JSON lines or parquet with a field `text`; a folder of parquet files; or a folder of "
    "ROME's .npz files, which hold C itself"
)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Which model, in what arithmetic, and where it runs."""
    parser.add_argument(
        "--model", required=True, metavar="NAME_OR_PATH", help="catalogue name, Hub id, local folder or GGUF file"
    )
    parser.add_argument("--revision", metavar="COMMIT", help="of the Hub; by default the one the catalogue pins")
    parser.add_argument("--dtype", choices=DTYPES, default=DTYPES[0], help="the model runs in (%(default)s)")
    add_device(parser)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Where the model runs."""
    where = "auto, cpu, mps, cuda, cuda:N, or all for every GPU together (%(default)s)"
    parser.add_argument("--device", type=device, default=DEVICES[0], metavar="NAME", help=where)


def add_text(parser: argparse.ArgumentParser, *, corpus: str | None, tokens: str) -> None:
    """What text C is taken over, and how much of it.

    Args:
        parser: of the command.
        corpus: by default; None where it has to be given.
        tokens: how many by default, in words.
    """
    corpus_help = CORPUS_HELP if corpus is None else f"{CORPUS_HELP} (%(default)s)"
    parser.add_argument("--corpus", required=corpus is None, default=corpus, metavar=CORPUS, help=corpus_help)
    parser.add_argument("--tokens", type=count, metavar="N|all", help=f"behind C, at most ({tokens})")
    most = f"that are read, at most (all; {PAPER_DOCUMENTS:,} of wikipedia)"
    parser.add_argument("--documents", type=count, metavar="N|all", help=most)
    until = "read until P of the facts moves by less than this share of its spread (not by default)"
    parser.add_argument("--settled", type=number, metavar="SHARE", help=until)


def add_models(parser: argparse.ArgumentParser) -> None:
    """Which models, facts and text a study is of, in which layers, and where it runs and writes."""
    parser.add_argument("--models", default=DEMO_MODELS, metavar="A,B,…", help="by name (the demo family)")
    parser.add_argument("--layers", default=ALL, metavar="all|0,2", help="to edit; all that can be by default")
    add_facts(parser)
    add_text(parser, corpus=BUILTIN_CORPUS, tokens=few_tokens())
    add_device(parser)
    add_out(parser)


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Where model, facts, text and files are, for commands that edit; as `analyse`, so that both use the same C."""
    add_model(parser)
    add_facts(parser)
    add_text(parser, corpus=BUILTIN_CORPUS, tokens=few_tokens())
    add_out(parser)


def add_facts(parser: argparse.ArgumentParser, default: str | None = BUILTIN_FACTS) -> None:
    """Which facts; they have to be named where there is no default."""
    kinds = f"{', '.join(FILES)}, with {'; '.join(RECORDS)}"
    parser.add_argument("--facts", required=default is None, default=default, metavar="builtin|FILE", help=kinds)


def add_out(parser: argparse.ArgumentParser) -> None:
    """Where files are written."""
    parser.add_argument("--out", required=True, type=Path, metavar="DIR")


def few_tokens() -> str:
    """How many tokens an analysis takes by default, in words."""
    return f"{DEFAULT_TOKENS:,}; all with --corpus {WIKIPEDIA_NAME} or --documents"


def request_of(
    args: argparse.Namespace, *, layers: tuple[int, ...] | None = None, tokens: int | None = DEFAULT_TOKENS
) -> Request:
    """The request that these options make.

    Args:
        args: as parsed.
        layers: which; None for all.
        tokens: by default, where the options do not say how much is read.
    """
    text = _text_of(args, tokens)
    return Request(args.model, args.facts, layers=layers, revision=args.revision, dtype=args.dtype, **text)


def requests_of(args: argparse.Namespace) -> tuple[Request, ...]:
    """The requests that the options of a study make, one a model."""
    text = _text_of(args, DEFAULT_TOKENS)
    return tuple(Request(model, args.facts, **text) for model in args.models.split(","))


def _text_of(args: argparse.Namespace, tokens: int | None) -> dict[str, Any]:
    """The fields of a request that say what C is taken over; `tokens` where nothing says how much is read."""
    documents = args.documents
    if documents is None and args.corpus == WIKIPEDIA_NAME:
        documents = PAPER_DOCUMENTS
    if args.tokens is not None:
        tokens = None if args.tokens == ALL else args.tokens
    elif documents is not None:
        tokens = None
    documents = None if documents == ALL else documents
    return {"corpus": args.corpus, "tokens": tokens, "documents": documents, "settled": args.settled}


def count(text: str) -> int | str:
    """A number, or `all`."""
    return text if text == ALL else whole(text, most=MOST_COUNT)


def whole(text: str, *, least: int = -MOST_NUMBER, most: int = MOST_NUMBER) -> int:
    """A whole number; whether it makes sense is checked later, where the reason is known.

    Raises:
        ArgumentTypeError: it is none, or of a size that nothing here can have.
    """
    try:
        value = int(text)
    except ValueError:  # also more digits than Python reads
        value = most + 1
    if not least <= value <= most:
        bound = f"at least {least:,}" if value < least else f"at most {most:,}"
        raise argparse.ArgumentTypeError(f"invalid whole number {shown(text)}; {bound} is read")
    return value


def seed(text: str) -> int:
    """A number to draw from."""
    return whole(text, least=0, most=MOST_SEED)


def seeds(text: str) -> int:
    """How many runs of a kind."""
    return whole(text, most=MOST_SEEDS)


def number(text: str) -> float:
    """A finite number.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"invalid number {shown(text)}")
    return value


def prefixes(text: str) -> tuple[tuple[int, int], ...]:
    """Random beginnings from `10x5,10x10`: how many of how many tokens; from `0`, none.

    Raises:
        ArgumentTypeError: it is neither.
    """
    if text == "0":
        return ()
    if not re.fullmatch(PREFIXES, text):
        raise argparse.ArgumentTypeError(f"invalid beginnings {shown(text)}; such as 10x5,10x10, or 0 for none")
    return tuple((whole(count), whole(length)) for count, length in (part.split("x") for part in text.split(",")))


def shown(text: str) -> str:
    """What was typed, as far as it fits a line."""
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")


def device(text: str) -> str:
    """The name of a device, whether or not this machine has it."""
    if text not in DEVICES and not NUMBERED.fullmatch(text):
        raise ValueError(text)
    return text


def chosen_layers(text: str) -> tuple[int, ...] | None:
    """Layers from `all` or `0,2`.

    Raises:
        RequestError: it is neither.
    """
    if text == ALL:
        return None
    try:
        return tuple(whole(part) for part in text.split(","))
    except argparse.ArgumentTypeError:
        raise RequestError(f"--layers takes `all` or numbers such as 0,2; found {shown(text)}") from None


def folder(path: Path) -> Path:
    """The path, once it is seen that a folder can be there.

    Raises:
        RequestError: it is a file, or below one.
    """
    standing = next(path for path in (path, *path.absolute().parents) if path.exists())
    if not standing.is_dir():
        raise RequestError(f"{standing} is a file; --out names a folder")
    return path


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Those that were given."""
    return {name: value for name, value in options.items() if value is not None}
