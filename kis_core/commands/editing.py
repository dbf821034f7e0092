"""Commands that edit: one fact (`edit`), many facts each by itself (`study`), or one after another (`lifelong`)."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

from kis_core import facts
from kis_core.analysis.pipeline import run
from kis_core.commands import options
from kis_core.commands.line import ProgressLine
from kis_core.models import catalog
from kis_core.models.holder import LoadedModels
from kis_core.request import RequestError
from kis_core.results import caveats
from kis_core.store.store import Store

SEARCH_OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "steps": (options.whole, "updates by Adam, at most; published settings of 20 steps are 19 updates"),
    "learning_rate": (options.number, "of Adam"),
    "weight_decay": (options.number, "factor of the size of δ"),
    "kl": (options.number, "factor of the drift of what is said of the subject"),
    "clamp": (options.number, "δ is at most this many times the old value"),
    "seed": (options.seed, "of the random beginnings of the prompt"),
}
SEARCH_SWITCHES = {
    "mean_key": "ROME's left side takes the mean key over contexts, as its code does",
    "everywhere": "while searching, δ acts on every token by its share, as the edit will",
}
RANK_ONE_METHODS = ("rome", "r-rome", "identity")
ALL_METHODS = (*RANK_ONE_METHODS, "memit", "alphaedit", "fine-tuning")
DEMO_MODELS = ",".join(entry.name for entry in catalog.demo())


def add(commands: Any) -> None:
    """Add the commands to the parser."""
    _add_edit(commands.add_parser("edit", help="edit one fact in memory; write what was foretold and measured for all"))
    _add_study(
        commands.add_parser("study", help="many edits in every layer: how often they take, which forecast is best")
    )
    _add_lifelong(
        commands.add_parser("lifelong", help="edit after edit; write what was foretold and measured at every step")
    )
    _add_forgetting(
        commands.add_parser("forgetting", help="many sequences: how fast models forget, and was it foretold?")
    )


def _add_edit(edit: argparse.ArgumentParser) -> None:
    options.add_sources(edit)
    edit.add_argument("--layer", required=True, type=options.whole)
    edit.add_argument("--fact", required=True, type=options.whole, metavar="INDEX", help="of the fact set, from 0")
    edit.add_argument("--target", required=True, metavar="TEXT", help="the new object")
    edit.add_argument("--method", default="rome", choices=RANK_ONE_METHODS, help="default %(default)s")
    edit.add_argument("--strength", type=options.number, default=1.0, help="of the edit, 0 to 1.5 (%(default)s)")
    search = edit.add_argument_group("search for the value", "defaults suit the model")
    for name, (kind, text) in SEARCH_OPTIONS.items():
        search.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text)
    _add_switches(search)
    edit.set_defaults(command=_edit)


def _add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", default=DEMO_MODELS, metavar="A,B,…")
    options.add_facts(parser)
    parser.add_argument("--edits", type=options.whole, default=50, help="a layer (%(default)s)")
    parser.add_argument("--method", default="rome", choices=RANK_ONE_METHODS, help="default %(default)s")
    parser.add_argument("--seed", type=options.seed, default=0)
    _add_switches(parser)
    options.add_device(parser)
    options.add_out(parser)
    parser.set_defaults(command=_study)


def _add_lifelong(sequence: argparse.ArgumentParser) -> None:
    options.add_sources(sequence)
    sequence.add_argument("--layer", required=True, metavar="L|L-L", help="one, or a range for memit and alphaedit")
    sequence.add_argument("--method", default="rome", choices=ALL_METHODS, help="default %(default)s")
    sequence.add_argument("--edits", type=options.whole, default=100, help="how many (%(default)s)")
    sequence.add_argument("--every", type=options.whole, default=5, help="edits between two measurements (%(default)s)")
    sequence.add_argument("--batch", type=options.whole, help="edits made at once, for memit and alphaedit (5)")
    sequence.add_argument("--seed", type=options.seed, default=0, help="of the choice of edits (%(default)s)")
    sequence.add_argument("--draw", default="random", choices=("random", "relation", "most", "least"),
                          help="which edits: at random, of relations, most or least superposed first")  # fmt: skip
    sequence.add_argument("--relations", default="", metavar="A,B", help="for --draw relation; all by default")
    sequence.add_argument("--order", default="drawn", choices=("drawn", "gentle", "harsh"),
                          help="as drawn, or by forecast interference")  # fmt: skip
    sequence.set_defaults(command=_lifelong)


def _add_forgetting(forgetting: argparse.ArgumentParser) -> None:
    forgetting.add_argument("--models", default=DEMO_MODELS, metavar="A,B,…")
    options.add_facts(forgetting)
    forgetting.add_argument("--edits", type=options.whole, default=100, help="at most, in one run (%(default)s)")
    forgetting.add_argument(
        "--every", type=options.whole, default=10, help="edits between two measurements (%(default)s)"
    )
    forgetting.add_argument("--seeds", type=options.seeds, default=3, help="runs of each kind (%(default)s)")
    forgetting.add_argument("--methods", default=",".join(ALL_METHODS), metavar="A,B,…")
    forgetting.add_argument("--layers", default="all", metavar="all|0,2", help="default all but the last")
    options.add_device(forgetting)
    options.add_out(forgetting)
    forgetting.set_defaults(command=_forgetting)


def _add_switches(parser: Any) -> None:
    for name, text in SEARCH_SWITCHES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", action=argparse.BooleanOptionalAction, help=text)


def _edit(args: argparse.Namespace, line: ProgressLine) -> Iterator[object]:
    from kis_core import simulator

    if not 0 <= args.strength <= simulator.MOST_STRENGTH:
        raise RequestError(f"the strength has to lie between 0 and {simulator.MOST_STRENGTH}; found {args.strength}")
    request, store = options.asked(args), Store()
    options.folder(args.out)
    line.say_of(facts.load(args.facts))
    how = {name: getattr(args, name) for name in (*SEARCH_OPTIONS, *SEARCH_SWITCHES)}
    models = LoadedModels()
    result = run(request, store, device=args.device, models=models, report=line)
    line.warn(caveats.of_result(result))
    bench = simulator.of(result, store, device=args.device, models=models)
    asked = bench.request(args.fact, args.target, args.layer, args.method, **options.given(how))
    bench.prepare(asked, report=line)
    for warning in bench.warnings(bench.forecast(asked)):
        line.say(f"warning: {warning}")
    line("Measuring every fact", 0, 1)
    yield from simulator.write(bench, asked, args.strength, args.out)


def _study(args: argparse.Namespace, line: ProgressLine) -> Iterator[object]:
    from kis_core.studies import edits

    options.folder(args.out)
    line.say_of(facts.load(args.facts))
    how = options.given({name: getattr(args, name) for name in SEARCH_SWITCHES})
    yield from edits.run(
        args.models.split(","), args.out, facts=args.facts, edits=args.edits, method=args.method, seed=args.seed,
        how=how, device=args.device, store=Store(), report=line,
    )  # fmt: skip


def _lifelong(args: argparse.Namespace, line: ProgressLine) -> Iterator[object]:
    from kis_core import lifelong, simulator

    request, store = options.asked(args), Store()
    layers = _range(args.layer)
    relations = tuple(name for name in args.relations.split(",") if name)
    draw = lifelong.Draw(args.draw, args.seed, relations, order=args.order)
    options.folder(args.out)
    line.say_of(facts.load(args.facts))
    models = LoadedModels()
    result = run(request, store, device=args.device, models=models, report=line)
    line.warn(caveats.of_result(result))
    bench = simulator.of(result, store, device=args.device, models=models)
    asked = lifelong.ask(bench, layers, args.method, args.edits, draw, every=args.every, batch=args.batch)
    film = lifelong.run(bench, asked, report=line)
    yield from lifelong.write(bench, asked, film, args.out)


def _forgetting(args: argparse.Namespace, line: ProgressLine) -> Iterator[object]:
    from kis_core.studies import sequences

    options.folder(args.out)
    line.say_of(facts.load(args.facts))
    yield from sequences.run(
        args.models.split(","), args.out, facts=args.facts, edits=args.edits, every=args.every, seeds=args.seeds,
        methods=args.methods.split(","), layers=options.chosen_layers(args.layers), device=args.device, store=Store(),
        report=line,
    )  # fmt: skip


def _range(text: str) -> tuple[int, ...]:
    ends = text.split("-")
    try:
        first, last = options.whole(ends[0], least=0), options.whole(ends[-1], least=0)
    except argparse.ArgumentTypeError:
        first, last = 0, -1
    if len(ends) > 2 or first > last:
        raise RequestError(f"--layer takes a number or a range such as 0-2; found {options.shown(text)}")
    return tuple(range(first, last + 1))
