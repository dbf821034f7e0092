"""Make the results that come with the program: `python -m kis_core.studies.gallery [--real] [--corpus FILE]`.

For every model: P and angles of all layers; an edit in each layer (of many layers, in twenty), forecast and measured,
which the page Edit shows by default; and the run that the page Lifelong shows by default. That is all that pages read
when they are opened with default choices. Left out is what only further work needs: C, gradients, and the weights
that a run has come to. Whoever goes on from a shipped result computes these anew.

The demo models are asked about the built-in facts, over their own text. With `--real`, the models of `make real`
follow, on facts that they answer, over the built-in text or that of a file. The work is done in a cache folder of its
own: it can be stopped at any time and resumes where it was. Results of a model take the place of all that was there of
it; those of models that were not asked for stay.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kis_core import lifelong
from kis_core.analysis import pipeline
from kis_core.corpora import BUILTIN_NAME as BUILTIN_CORPUS
from kis_core.editing import RANK_ONE, EditError
from kis_core.facts import BUILTIN_NAME, REAL_NAME
from kis_core.lifelong.run_state import STATE
from kis_core.models import catalog
from kis_core.models.holder import LoadedModels
from kis_core.request import DEFAULT_TOKENS, Request
from kis_core.results import archive
from kis_core.results.pairs import first_shown
from kis_core.simulator import EditRequest, Simulator, events, first_edited
from kis_core.simulator import of as simulator_of
from kis_core.store import shipped
from kis_core.store.store import Entry, Store, StoreError, default_root

MOST_BYTES = 40_000_000  # of all results in the repository
MOST_EDITS = 20  # of a model: by default one in each layer
OF_README = 1, "French"  # makes Vladimir Bukovsky a native speaker of French
WORK = "gallery"  # folder in the cache that the work is done in


@dataclass(frozen=True, slots=True)
class Made:
    """A value of the gallery.

    Attributes:
        what: it is, in words.
        model: it is of.
        key: its name in the store.
    """

    what: str
    model: str
    key: str


def requests(*, real: bool, corpus: str, tokens: int | None) -> list[Request]:
    """What is analysed: the demo family, and with `real` the models of `make real`."""
    analysed = [Request(model=entry.name, facts=BUILTIN_NAME) for entry in catalog.demo()]
    if real:
        packed = [entry.name for entry in catalog.hub() if entry.package]
        analysed += [Request(model=name, facts=REAL_NAME, corpus=corpus, tokens=tokens) for name in packed]
    return analysed


def made(request: Request, work: Store) -> Iterator[Made]:
    """Everything that pages read of an analysis by default, computed into a store where it is not there yet."""
    models = LoadedModels()
    result = pipeline.run(request, work, models=models)
    yield Made("P", request.model, result.key)
    simulator = simulator_of(result, work, models=models)
    for edit in told_edits(simulator):
        with suppress(EditError):  # this one cannot be made; the page says why
            yield Made(f"edit in layer {edit.layer}", request.model, simulator.keep(edit))
            yield Made(f"its value in layer {edit.layer}", request.model, simulator.value_key(edit))
    run = default_run(simulator)
    lifelong.run(simulator, run)
    yield Made("run of edits", request.model, lifelong.key(simulator, run))


def told_edits(simulator: Simulator) -> list[EditRequest]:
    """The edits that are made: in each layer, or in some evenly, of the first fact of its strongest pair without a tag.

    Of the built-in facts also the one that README makes, in the first layer.
    """
    pairs = [(layer, first_shown(simulator.result, layer)) for layer in _layers(simulator)]
    edits = [_usual(simulator, layer, pair) for layer, pair in pairs]
    if simulator.result.request.facts == BUILTIN_NAME:
        edits.append(simulator.request(*OF_README, _layers(simulator)[0], RANK_ONE[0].name))
    return list(dict.fromkeys(edit for edit in edits if edit))


def default_edits(simulator: Simulator) -> list[EditRequest]:
    """The edit that the page Edit shows first in each of these layers."""
    told, result = events(simulator), simulator.result
    edits = [_usual(simulator, layer, first_edited(result, told, layer)) for layer in _layers(simulator)]
    return [edit for edit in edits if edit]


def _layers(simulator: Simulator) -> list[int]:
    layers = simulator.result.editable_layers
    chosen = np.linspace(0, len(layers) - 1, min(len(layers), MOST_EDITS)).round().astype(int)
    return [layers[at] for at in chosen]


def _usual(simulator: Simulator, layer: int, pair: tuple[int, int] | None) -> EditRequest | None:
    """The edit of the first fact of a pair as the page Edit offers it first; None where there is none."""
    if pair is None or not simulator.reaches(pair[0], layer):
        return None
    objects = simulator.known_facts.new_objects(simulator.facts[pair[0]])
    return simulator.request(pair[0], objects[0], layer, RANK_ONE[0].name) if objects else None


def default_run(simulator: Simulator) -> lifelong.LifelongRequest:
    """The run that the page Lifelong shows first; where edits are of the facts looked at, half of them."""
    run = lifelong.ask(simulator, simulator.result.editable_layers[0])
    return run if simulator.known_facts.apart else replace(run, edits=min(run.edits, len(simulator.facts) // 2))


def ship(value: Made, work: Store, folder: Path) -> int:
    """Write a value to the folder that comes with the program; its bytes there.

    Raises:
        StoreError: it cannot be read back.
    """
    item, entry = work.find(value.key), work.get(value.key)
    if item is None or entry is None:
        raise StoreError(f"{value.what} of {value.model} was computed and cannot be read back; is the disk failing?")
    return shipped.ship(folder / value.model, value.key, portable(item.kind, entry), item.written)


def portable(kind: str, entry: Entry) -> Entry:
    """A value without what only its own machine needs: the place of the text, and what a run would go on from."""
    meta, arrays = entry.meta, entry.arrays
    if kind == archive.KIND:
        source = meta["provenance"]
        request = source["request"] | {"corpus": Path(source["request"]["corpus"]).name}
        meta = meta | {"provenance": source | {"request": request}}
    return Entry(meta, {name: array for name, array in arrays.items() if not name.startswith(STATE)})


def main() -> None:
    """Make the gallery, and print each of its values with its size, as a Markdown table, as soon as it is written."""
    parser = argparse.ArgumentParser(description="Make the results that come with the program.")
    parser.add_argument("--real", action="store_true", help="also those of the models of `make real` (hours on a CPU)")
    parser.add_argument(
        "--corpus", default=BUILTIN_CORPUS, metavar="FILE", help="text that C of the real models is taken over"
    )
    parser.add_argument("--tokens", type=int, default=DEFAULT_TOKENS, help="of it, at most (%(default)s)")
    parser.add_argument("--out", type=Path, default=shipped.FOLDER, metavar="DIR", help="the folder (%(default)s)")
    args = parser.parse_args()
    work = Store(default_root() / WORK, gallery="")
    sys.stdout.write("| model | what | bytes |\n|---|---|---|\n")
    for request in requests(real=args.real, corpus=args.corpus, tokens=args.tokens):
        keys = []
        for value in made(request, work):
            keys.append(value.key)
            size = ship(value, work, args.out)
            sys.stdout.write(f"| {value.model} | {value.what} | {size:,} |\n")
            sys.stdout.flush()
        shipped.keep_only(args.out / request.model, keys)
    total = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    sys.stdout.write(f"\n{total:,} bytes in {args.out}\n")
    if total > MOST_BYTES:
        sys.exit(f"The repository takes {MOST_BYTES:,} bytes; leave something out.")


if __name__ == "__main__":
    main()
