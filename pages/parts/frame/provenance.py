"""The line under a figure: from which model, layer, facts and tokens its numbers come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kis_core.results.archive import SHIPPED
from kis_core.results.result import LayerReport, Result
from kis_core.wording import counted

if TYPE_CHECKING:
    from kis_core.analysis.large_sets import LargeSet

HASH = 8  # digits of a fingerprint that are shown


def origin(result: Result | LargeSet, layer: int | None) -> str:
    """Model, revision, layer, facts, corpus, tokens and ridge, and whether it came with the program, as plain text.

    Args:
        result: what is drawn.
        layer: the layer that is drawn, or None for all of them.
    """
    source = result.provenance
    revision = source["revision"][:HASH] if source["revision"] else f"weights {source['weights_sha256'][:HASH]}"
    if quantised := source.get("quantisation"):
        revision += f", {quantised} unpacked"
    where = f"layer {layer}" if layer is not None else f"layers {result.layers[0]} to {result.layers[-1]}"
    return (
        f"{result.request.model} ({revision}) · {where} · {counted(len(result.facts), 'fact')} ({result.facts.name}) · "
        f"C over {counted(source['tokens_counted'], 'token')} of the {source['corpus']} corpus · "
        f"{_ridges(result, layer)}{_shipped(source)}"
    )


def _shipped(source: dict[str, Any]) -> str:
    computed = source.get(SHIPPED)
    return f" · shipped with the program, computed on {computed}" if computed else ""


def _ridges(result: Result | LargeSet, layer: int | None) -> str:
    if layer is not None:
        return ridge(result.reports[result.at(layer)])
    needed = [report.layer for report in result.reports if report.ridge]
    return f"ridge added in layers {', '.join(map(str, needed))}" if needed else "no ridge"


def ridge(report: LayerReport) -> str:
    """Whether a ridge was needed, in words."""
    if report.ridge == 0:
        return f"no ridge (condition number of C {report.condition_number:.1e})"
    return f"ridge {report.ridge:.2e} added: C has rank {report.rank} and could not be inverted as it is"
