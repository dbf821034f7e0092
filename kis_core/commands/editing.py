"""Commands that edit: one fact (`edit`), many facts each by itself (`study`), or one after another (`lifelong`).

`budget` forecasts what the last would measure.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from kis_core import facts
from kis_core.analysis.pipeline import run
from kis_core.commands import options
from kis_core.commands.line import ProgressLine
from kis_core.editing import METHODS, RANK_ONE, Method
from kis_core.lifelong import BATCH, DRAWS, EVERY, ORDERS, LifelongRequest
from kis_core.models.holder import LoadedModels
from kis_core.request import RequestError
from kis_core.results import caveats
from kis_core.store.store import Store

if TYPE_CHECKING:
    from kis_core.simulator import Simulator

SEARCH_OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "steps": (options.whole, "updates by Adam, at most; published settings of 20 steps are 19 updates"),
    "learning_rate": (options.number, "of Adam"),
    "weight_decay": (options.number, "factor of the size of δ"),
    "kl": (options.number, "factor of the drift of what is said of the subject"),
    "clamp": (options.number, "δ is at most this many times the old value"),
    "prefixes": (options.prefixes, "random beginnings of the prompt, how many of how many tokens, as 10x5,10x10"),
}
SEARCH_SWITCHES = {
    "mean_key": "ROME's left side takes the mean key over contexts, as its code does",
    "everywhere": "while searching, δ acts on every token by its share, as the edit will",
    "nas": "norm-anchor scaling: a value is rescaled to the norm that values have in the unedited model",
}

SEVERAL = ("layer", "method", "draw", "order")
"""What forecasts may be compared over: options of `budget` that there are in the plural too."""


def add(commands: Any) -> None:
    """Add the commands to the parser."""
    for name, add_options, text in (
        ("edit", _add_edit, "edit one fact in memory; write forecast and measurement for all"),
        ("study", _add_study, "many edits in every layer: how often they take, which forecast is best"),
        ("lifelong", _add_lifelong, "edit after edit; write forecast and measurement at every step"),
        ("budget", _add_budget, "forecast the forgetting curve of a sequence before its edits are made"),
        ("forgetting", _add_forgetting, "many sequences: how fast models forget, and how good the forecasts are"),
        ("league", _add_league, "methods side by side after many edits: efficacy, paraphrases, neighbours, perplexity"),
        ("budgets", _add_budgets, "how good the forecasts of budgets are, against the runs of docs/forgetting.md"),
    ):
        add_options(commands.add_parser(name, help=text))


def _add_edit(edit: argparse.ArgumentParser) -> None:
    options.add_sources(edit)
    edit.add_argument("--layer", required=True, type=options.whole)
    edit.add_argument("--fact", required=True, type=options.whole, metavar="INDEX", help="of the fact set, from 0")
    edit.add_argument("--target", required=True, metavar="TEXT", help="the new object")
    _add_method(edit, RANK_ONE)
    edit.add_argument("--strength", type=options.number, default=1.0, help="of the edit, 0 to 1.5 (%(default)s)")
    _add_search(edit).add_argument("--seed", type=options.seed, help="of the random beginnings of the prompt")
    edit.set_defaults(command=_edit)


def _add_study(parser: argparse.ArgumentParser) -> None:
    options.add_models(parser)
    parser.add_argument("--edits", type=options.whole, default=50, help="a layer (%(default)s)")
    parser.add_argument("--seed", type=options.seed, default=0, help="of the choice of edits (%(default)s)")
    _add_method(parser, RANK_ONE)
    _add_search(parser)
    parser.set_defaults(command=_study)


def _add_lifelong(parser: argparse.ArgumentParser, *, layer: bool = True) -> None:
    options.add_sources(parser)
    ranging = ", ".join(method.name for method in METHODS if method.takes_layers)
    batching = ", ".join(method.name for method in METHODS if method.batches)
    draws = [name for name in DRAWS if name != "hand"]
    parser.add_argument("--layer", required=layer, metavar="L|L-L", help=f"one, or a range for {ranging}")
    _add_method(parser, METHODS)
    parser.add_argument("--edits", type=options.whole, default=100, help="how many (%(default)s)")
    parser.add_argument(
        "--every", type=options.whole, default=EVERY, help="edits between two measurements (%(default)s)"
    )
    parser.add_argument("--batch", type=options.whole, help=f"edits made at once, for {batching} ({BATCH})")
    parser.add_argument("--seed", type=options.seed, default=0, help="of the choice of edits (%(default)s)")
    parser.add_argument("--draw", default=draws[0], choices=draws, help="; ".join(f"{n}: {DRAWS[n]}" for n in draws))
    parser.add_argument("--relations", default="", metavar="A,B", help="for --draw relation; all by default")
    parser.add_argument("--order", default="drawn", choices=tuple(ORDERS), help="as drawn, or by forecast interference")
    _add_search(parser)
    parser.set_defaults(command=_lifelong)


def _add_budget(parser: argparse.ArgumentParser) -> None:
    _add_lifelong(parser, layer=False)
    several = "several, in place of --{}: forecasts of all are compared; writes compared.csv and compared.md"
    parser.add_argument("--layers", metavar="L,L-L,…", help=several.format("layer"))
    parser.add_argument("--methods", metavar="A,B,…", help=several.format("method"))
    parser.add_argument("--draws", metavar="A,B,…", help=several.format("draw"))
    parser.add_argument("--orders", metavar="A,B,…", help=several.format("order"))
    text = "also forecast it without growing δ and without superposition; write why.csv and why.png"
    parser.add_argument("--why", action="store_true", help=text)
    parser.set_defaults(command=_budget)


def _add_forgetting(forgetting: argparse.ArgumentParser) -> None:
    options.add_models(forgetting)
    forgetting.add_argument("--edits", type=options.whole, default=100, help="at most, in one run (%(default)s)")
    forgetting.add_argument(
        "--every", type=options.whole, default=10, help="edits between two measurements (%(default)s)"
    )
    forgetting.add_argument("--seeds", type=options.seeds, default=3, help="runs of each kind (%(default)s)")
    of_one_layer = ",".join(method.name for method in METHODS if not method.picks)
    forgetting.add_argument("--methods", default=of_one_layer, metavar="A,B,…")
    _describe(forgetting, METHODS)
    forgetting.set_defaults(command=_forgetting)


def _add_league(parser: argparse.ArgumentParser) -> None:
    options.add_models(parser)
    several = "after which all is measured; the last ends a run (%(default)s)"
    parser.add_argument("--edits", default="50,100", metavar="N,N,…", help=several)
    every = "edits between two measurements of the unrelated facts (%(default)s)"
    parser.add_argument("--every", type=options.whole, default=10, help=every)
    parser.add_argument("--seeds", type=options.seeds, default=3, help="runs of each kind (%(default)s)")
    parser.add_argument("--methods", default=",".join(method.name for method in METHODS), metavar="A,B,…")
    _describe(parser, METHODS)
    parser.set_defaults(command=_league)


def _add_budgets(parser: argparse.ArgumentParser) -> None:
    options.add_models(parser)
    parser.add_argument("--edits", type=options.whole, default=100, help="planned in one run (%(default)s)")
    parser.add_argument("--seeds", type=options.seeds, default=3, help="runs of each kind, at most (%(default)s)")
    searching = tuple(method for method in METHODS if method.searches)
    parser.add_argument("--methods", default=",".join(method.name for method in searching), metavar="A,B,…")
    _describe(parser, searching)
    parser.set_defaults(command=_budgets)


def _add_method(parser: argparse.ArgumentParser, methods: Sequence[Method]) -> None:
    """Which method, of those that the registry knows; what each does stands at the end of the help."""
    names = [method.name for method in methods]
    parser.add_argument("--method", default=names[0], choices=names, help="default %(default)s")
    _describe(parser, methods)


def _describe(parser: argparse.ArgumentParser, methods: Sequence[Method]) -> None:
    parser.epilog = "Methods. " + " ".join(f"{method.name}: {method.help}" for method in methods)


def _add_search(parser: argparse.ArgumentParser) -> Any:
    search = parser.add_argument_group("search for the value", "defaults suit the model")
    for name, (kind, text) in SEARCH_OPTIONS.items():
        search.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text)
    for name, text in SEARCH_SWITCHES.items():
        search.add_argument(f"--{name.replace('_', '-')}", action=argparse.BooleanOptionalAction, help=text)
    return search


def _search_of(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of the search that were given."""
    return options.given({name: getattr(args, name) for name in (*SEARCH_OPTIONS, *SEARCH_SWITCHES)})


def _edit(args: argparse.Namespace, line: ProgressLine) -> Iterator[object]:
    from kis_core.simulator import MOST_STRENGTH, write
    from kis_core.simulator import of as simulator_of

    if not 0 <= args.strength <= MOST_STRENGTH:
        raise RequestError(f"the strength has to lie between 0 and {MOST_STRENGTH}; found {args.strength}")
    request, store = options.request_of(args), Store()
    options.folder(args.out)
    line.say_of(facts.load(args.facts))
    how = _search_of(args) | options.given({"seed": args.seed})
    models = LoadedModels()
    result = run(request, store, device=args.device, models=models, report=line)
    line.warn(caveats.of_result(result))
    simulator = simulator_of(result, store, device=args.device, models=models)
    edit = simulator.request(args.fact, args.target, args.layer, args.method, **how)
    line.warn(caveats.of_edit(result, edit.layer, edit.fact))  # before the search for a value, which takes long
    simulator.prepare(edit, report=line)
    line.warn(simulator.warnings(simulator.forecast(edit)))
    line("Measuring every fact", 0, 1)
    yield from write(simulator, edit, args.strength, args.out)


def _study(args: argparse.Namespace, line: ProgressLine) -> Iterator[object]:
    from kis_core.studies.edits import EditStudy

    options.folder(args.out)
    line.say_of(facts.load(args.facts))
    layers = options.chosen_layers(args.layers)
    study = EditStudy(
        options.requests_of(args), args.edits, args.method, args.seed, _search_of(args), layers, args.device
    )
    yield from study.run(args.out, Store(), report=line)


def _lifelong(args: argparse.Namespace, line: ProgressLine) -> Iterator[object]:
    from kis_core import lifelong

    simulator, edits = _planned(args, line)
    trace = lifelong.run(simulator, edits, report=line)
    yield from lifelong.write(simulator, edits, trace, args.out)


def _budget(args: argparse.Namespace, line: ProgressLine) -> Iterator[object]:
    from kis_core import lifelong

    if (args.layer is None) == (args.layers is None):
        raise RequestError("which layer? --layer takes one, or a range; --layers takes several to compare, as 0,1")
    several = {name: getattr(args, f"{name}s") for name in SEVERAL}
    given = [names.split(",") if names else [getattr(args, name)] for name, names in several.items()]
    ways = list(product(*map(dict.fromkeys, given)))
    if len(ways) > 1:
        yield from _compared(args, ways, line)
        return
    vars(args).update(zip(SEVERAL, ways[0], strict=True))
    simulator, edits = _planned(args, line)
    forecast = lifelong.budget.forecast(simulator, edits, report=line)
    yield from lifelong.write_budget(simulator, edits, forecast, args.out)
    if args.why:
        from kis_core.lifelong import why

        yield from why.write(why.decomposition(simulator, edits, line), args.out)


def _compared(args: argparse.Namespace, ways: Sequence[tuple[str, ...]], line: ProgressLine) -> Iterator[object]:
    """Forecasts of the run in several ways (`SEVERAL`): the advice, the table, and both as files."""
    from kis_core import lifelong
    from kis_core.lifelong import budget_advice

    if args.why:
        raise RequestError("--why is of one run; leave --layers, --methods, --draws and --orders out")
    for layers, name, by, order in ways:  # what is refused is refused before anything is worked out
        _range(layers)
        lifelong.Draw(by, order=order)
        if why := lifelong.budget.refusal(name):
            raise RequestError(why)
    simulator = _simulator(args, line)
    requests, forecasts = [], []
    for way in ways:
        vars(args).update(zip(SEVERAL, way, strict=True))
        requests.append(_requested(args, simulator))
    for request in requests:
        forecast = lifelong.budget.forecast(simulator, request, report=line)
        forecasts.append(budget_advice.ForecastRun(simulator.result.request.model, request, forecast))
    yield from lifelong.write_comparison(forecasts, args.out)
    yield budget_advice.markdown(forecasts)
    yield budget_advice.advice(forecasts)


def _planned(args: argparse.Namespace, line: ProgressLine) -> tuple[Simulator, LifelongRequest]:
    """The sequence that these options describe, and what it rests on."""
    _range(args.layer)  # refused, if it is none, before anything is worked out
    simulator = _simulator(args, line)
    return simulator, _requested(args, simulator)


def _requested(args: argparse.Namespace, simulator: Simulator) -> LifelongRequest:
    """The sequence that these options describe."""
    from kis_core import lifelong

    relations = tuple(name for name in args.relations.split(",") if name)
    draw = lifelong.Draw(args.draw, args.seed, relations, order=args.order)
    how, pace = _search_of(args), {"every": args.every, "batch": args.batch}
    return lifelong.ask(simulator, _range(args.layer), args.method, args.edits, draw, **pace, **how)


def _simulator(args: argparse.Namespace, line: ProgressLine) -> Simulator:
    """What these options say of model, facts and C."""
    from kis_core.simulator import of as simulator_of

    request, store = options.request_of(args), Store()
    options.folder(args.out)
    line.say_of(facts.load(args.facts))
    models = LoadedModels()
    result = run(request, store, device=args.device, models=models, report=line)
    line.warn(caveats.of_result(result))
    return simulator_of(result, store, device=args.device, models=models)


def _forgetting(args: argparse.Namespace, line: ProgressLine) -> Iterator[object]:
    from kis_core.studies.sequences import SequenceStudy

    options.folder(args.out)
    line.say_of(facts.load(args.facts))
    study = SequenceStudy(
        requests=options.requests_of(args),
        edits=args.edits,
        every=args.every,
        seeds=args.seeds,
        methods=tuple(args.methods.split(",")),
        layers=options.chosen_layers(args.layers),
        device=args.device,
    )
    yield from study.run(args.out, Store(), report=line)


def _league(args: argparse.Namespace, line: ProgressLine) -> Iterator[object]:
    from kis_core.studies.league import LeagueStudy

    options.folder(args.out)
    try:
        edits = tuple(options.whole(part, least=1) for part in args.edits.split(","))
    except argparse.ArgumentTypeError:
        raise RequestError(f"--edits takes numbers such as 50,100; found {options.shown(args.edits)}") from None
    line.say_of(facts.load(args.facts))
    study = LeagueStudy(
        requests=options.requests_of(args),
        edits=edits,
        every=args.every,
        seeds=args.seeds,
        methods=tuple(args.methods.split(",")),
        layers=options.chosen_layers(args.layers),
        device=args.device,
    )
    yield from study.run(args.out, Store(), report=line)


def _budgets(args: argparse.Namespace, line: ProgressLine) -> Iterator[object]:
    from kis_core.studies.budgets import BudgetStudy

    options.folder(args.out)
    line.say_of(facts.load(args.facts))
    study = BudgetStudy(
        requests=options.requests_of(args),
        edits=args.edits,
        seeds=args.seeds,
        methods=tuple(args.methods.split(",")),
        layers=options.chosen_layers(args.layers),
        device=args.device,
    )
    yield from study.run(args.out, Store(), report=line)


def _range(text: str) -> tuple[int, ...]:
    ends = text.split("-")
    try:
        first, last = options.whole(ends[0], least=0), options.whole(ends[-1], least=0)
    except argparse.ArgumentTypeError:
        first, last = 0, -1
    if len(ends) > 2 or first > last:
        raise RequestError(f"--layer takes a number or a range such as 0-2; found {options.shown(text)}")
    return tuple(range(first, last + 1))
