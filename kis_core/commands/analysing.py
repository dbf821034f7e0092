"""`analyse`: P of a model and a fact set; `models`: what is known by name."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from kis_core import facts
from kis_core.analysis.pipeline import run
from kis_core.commands import options
from kis_core.commands.line import ProgressLine
from kis_core.machine import Device, gigabytes
from kis_core.models import catalog
from kis_core.models.catalog import ModelEntry
from kis_core.results import caveats, export
from kis_core.store.store import Store

COLUMNS = (
    "name", "family", "parameters", "layers", "d", "d_m", "context", "where", "gated", "revision", "download", "fits",
)  # fmt: skip
REVISION_DIGITS = 8


def add(commands: Any) -> None:
    """Add the commands to the parser."""
    analyse = commands.add_parser("analyse", help="compute P of a model and a fact set, and write it to files")
    options.add_model(analyse)
    options.add_facts(analyse, default=None)
    options.add_text(analyse, corpus=None, tokens=options.few_tokens())
    analyse.add_argument("--layers", default="all", metavar="all|0,2", help="default all")
    options.add_out(analyse)
    analyse.set_defaults(command=_analyse)

    models = commands.add_parser("models", help="list the models known by name, and which fit this machine")
    models.set_defaults(command=_models)


def _analyse(args: argparse.Namespace, line: ProgressLine) -> Iterator[object]:
    request = options.request_of(args, layers=options.chosen_layers(args.layers))
    options.folder(args.out)
    line.say_of(facts.load(args.facts))
    result = run(request, Store(), device=args.device, report=line)
    line.warn(caveats.of_result(result))
    for sentence in caveats.of_tags(result, result.layers):
        line.say(sentence)
    yield from export.write(result, args.out)


def _models(args: argparse.Namespace, line: ProgressLine) -> Iterator[object]:
    from kis_core import machine

    here = machine.devices()
    rows = [COLUMNS, *(_row(entry, here) for entry in catalog.entries())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _row(entry: ModelEntry, here: tuple[Device, ...]) -> tuple[str, ...]:
    return (
        entry.name, entry.family, f"{entry.parameters / 1e6:,.2f} M", str(entry.layers), str(entry.width),
        str(entry.mlp_width), str(entry.context), "embedded" if entry.files else entry.source,
        "gated" if entry.gated else "-", (entry.revision or "-")[:REVISION_DIGITS],
        gigabytes(entry.download_bytes) if entry.download_bytes else "-", _fits(entry, here),
    )  # fmt: skip


def _fits(entry: ModelEntry, here: tuple[Device, ...]) -> str:
    """Where C of a model can be taken on this machine, and in what arithmetic."""
    from kis_core.analysis import requirements

    if not entry.safetensors:
        return "no safetensors"
    name, dtype = requirements.choose(entry, here)
    device = next(device for device in here if device.name == name)
    return f"{name} {dtype}" if requirements.required_bytes(entry, device, dtype) <= device.free_bytes else "too large"
