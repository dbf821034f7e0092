"""What a report holds, as JSON: facts, layers, edits, runs and where all of it is from."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from kis_core import __version__, progress
from kis_core.charts.colours import DIVERGING
from kis_core.errors import KisError
from kis_core.facts import SLOT
from kis_core.report import edits
from kis_core.report.layers import ANGLE_DECIMALS, P_DECIMALS, judged, layer
from kis_core.request import Request
from kis_core.results import caveats, pairs
from kis_core.results.archive import SHIPPED
from kis_core.results.result import Result
from kis_core.results.tags import ARTEFACTS, NO_TAG, TAGS
from kis_core.simulator import without_model
from kis_core.store.store import Store
from kis_core.superposition import verdicts
from kis_core.superposition.ordering import ORDERS, order_facts
from kis_core.wording import counted, ranges, share

MOST_ENTRIES = 4_000_000  # of P, over all layers: 40 MB, which a browser opens in seconds
ANSWERS = 3  # of the model to a fact
STAGE = "Making the report"
FOLDERS = ("model", "facts", "corpus")
"""Names of a request that may be places on the disk of whoever made it; a report says the last part of them alone."""


class ReportError(KisError):
    """A result that no report can be made of; the message says what to do."""


def too_large(layers: int, facts: int) -> str:
    """Why there is no report of so many layers and facts, and what to do; empty where there is one."""
    entries = layers * facts**2
    if entries <= MOST_ENTRIES:
        return ""
    size = f"{counted(layers, 'layer')} × {facts:,}² facts = {entries:,} entries of P"
    return (
        f"A report holds at most {MOST_ENTRIES:,} entries of P, and this result has {size}. Take fewer facts, or some "
        f"layers: `python -m kis_core report --layers 0,2`."
    )


def contents(result: Result, store: Store, report: progress.Report = progress.silent) -> dict[str, Any]:
    """Everything that a report shows of a result, as JSON without NaN or infinities.

    Args:
        result: the analysis.
        store: where edits and runs of it are looked for.
        report: called after every layer.

    Raises:
        ReportError: there are too many facts and layers for a file that a browser opens.
    """
    facts = result.facts.facts
    if why := too_large(len(result.layers), len(facts)):
        raise ReportError(why)
    layers = []
    for at in range(len(result.layers)):
        report(STAGE, at, len(result.layers) + 1)
        layers.append(layer(result, at))
    report(STAGE, len(result.layers), len(result.layers) + 1)
    bench = without_model(result, store)
    made = {
        "title": _named(result.request.model),
        "subtitle": _subtitle(result),
        "version": __version__,
        "decimals": {"p": P_DECIMALS, "angle": ANGLE_DECIMALS},
        "diverging": {"light": DIVERGING[0], "dark": DIVERGING[1]},
        "tags": list(TAGS[:-1]),
        "artefacts": list(ARTEFACTS),
        "facts": [_fact(result, at) for at in range(len(facts))],
        "orders": {name: _order(result, name) for name in ORDERS},
        "pair": _first_pair(result),
        "layers": layers,
        "depth": {
            "all": judged(verdicts.falls_with_depth(list(result.p))),
            "clean": judged(verdicts.falls_with_depth([result.clean(number) for number in result.layers])),
        },
        "edits": edits.edits(bench),
        "runs": edits.runs(bench),
        "caveats": [*caveats.of_result(result), *caveats.of_tags(result, result.layers)],
        "origin": _origin(result),
        "command": _command(result.request),
        "provenance": json.dumps(_portable(result.provenance), indent=2, ensure_ascii=False),
    }
    report(STAGE, len(result.layers) + 1, len(result.layers) + 1)
    return made


def _subtitle(result: Result) -> str:
    source = result.provenance
    return (
        f"{counted(len(result.layers), 'layer')} · {counted(len(result.facts), 'fact')} ({_named(source['facts'])}) · "
        f"C over {counted(source['tokens_counted'], 'token')} of the {_named(source['corpus'])} corpus"
    )


def _fact(result: Result, at: int) -> dict[str, Any]:
    fact = result.facts.facts[at]
    before, after = fact.prompt.split(SLOT, 1)
    return {
        "subject": fact.subject,
        "before": before,
        "after": after,
        "target": fact.target,
        "label": pairs.label_of(fact),
        "relation": fact.relation.replace("_", " "),
        "token": result.key_tokens[at].strip(),
        "answers": [[text, share(probability)] for text, probability in result.answers[at][:ANSWERS]],
    }


def _order(result: Result, name: str) -> dict[str, Any]:
    """The facts in one of `ORDERS`, and their labels; that by similarity is another one in every layer."""
    order, labels = order_facts(result.facts.facts, result.p[0], name)
    return {"order": None if name == "similarity" else order.tolist(), "labels": labels}


def _first_pair(result: Result) -> list[int]:
    """The pair that is shown first: the strongest without a tag, or else the strongest."""
    for tags in ((NO_TAG,), ()):
        strongest = pairs.table(result, result.layers[0], count=1, tags=tags)
        if len(strongest):
            return [int(strongest["i"][0]), int(strongest["j"][0])]
    return [0, 0]


def _origin(result: Result) -> list[tuple[str, str]]:
    """Where the numbers are from, line by line."""
    source = result.provenance
    documents = source.get("documents_read")
    ridged = [report.layer for report in result.reports if report.ridge]
    lines = {
        "model": _named(source["model"]),
        "architecture": f"{source.get('architecture', '')}, {source['parameters']:,} parameters, "
        f"d = {source['width']:,}, d_m = {source['mlp_width']:,}",
        "revision": source["revision"] or "",
        "weights, SHA-256": source["weights_sha256"],
        "quantised as": source.get("quantisation") or "",
        "layers": f"{ranges(result.layers)} of {source['layers_in_model']}",
        "facts": f"{len(result.facts):,} ({_named(source['facts'])})",
        "facts, SHA-256": source["facts_sha256"],
        "text behind C": f"{_named(source['corpus'])}, {counted(source['tokens_counted'], 'token')}"
        + (f" of {counted(documents, 'document')}" if documents else ""),
        "text, SHA-256": source["corpus_sha256"],
        "ridge added to C": f"in {counted(len(ridged), 'layer')}: {ranges(ridged)}" if ridged else "none",
        "computed on": f"{source['device']} in {source['dtype']}",
        "versions": ", ".join(f"{name} {version}" for name, version in source["versions"].items()),
        "shipped with the program": source.get(SHIPPED, ""),
    }
    return [(name, text) for name, text in lines.items() if text]


def _command(request: Request) -> str:
    """The command that makes this report."""
    options: dict[str, Any] = {name: _named(getattr(request, name)) for name in FOLDERS}
    options |= {"tokens": "all" if request.tokens is None and request.documents is None else request.tokens}
    options |= {"documents": request.documents, "settled": request.settled, "revision": request.revision}
    options |= {"layers": None if request.layers is None else ",".join(map(str, request.layers))}
    options |= {"dtype": None if request.dtype == Request().dtype else request.dtype, "out": "report.html"}
    given = [f"--{name} {shlex.quote(str(value))}" for name, value in options.items() if value is not None]
    return " ".join(["python -m kis_core report", *given])


def _portable(provenance: dict[str, Any]) -> dict[str, Any]:
    """Provenance without places on the disk of whoever made the report."""
    request = {
        name: _named(value) if name in FOLDERS else value for name, value in provenance.get("request", {}).items()
    }
    return provenance | {name: _named(str(provenance[name])) for name in FOLDERS} | {"request": request}


def _named(source: str) -> str:
    """What a request names, without the folders it lies in; a name on the Hub stays whole."""
    path = Path(source)
    return path.name if path.is_absolute() else source
