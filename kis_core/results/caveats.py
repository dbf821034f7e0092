"""What is to be said beside the numbers of a result: whether the text behind C was enough, and C well conditioned."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from kis_core.results.result import LayerReport, Result

log = logging.getLogger(__name__)

ENOUGH_TOKENS = 30  # a dimension of the key: P of the demo models then correlates 0.99 with P over all of their text


def of_result(result: Result) -> list[str]:
    """A sentence each on too little text, on layers whose C is rank-deficient, and on those that got a ridge."""
    found = of_text(int(result.provenance["tokens_counted"]), result.mlp_width)
    singular = _layers(result.reports, lambda report: report.rank < result.mlp_width)
    if singular:
        lowest = min(report.rank for report in result.reports)
        found.append(f"C is rank-deficient in {singular}: rank {lowest} of d_m = {result.mlp_width} at the lowest.")
    ridged = _layers(result.reports, lambda report: report.ridge > 0)
    if ridged:
        found.append(f"C got a ridge in {ridged}: P there depends on it (statistics.csv of analyse has its size).")
    return found


def log_of(result: Result) -> None:
    """Log them, for work that takes the results of several models."""
    for caveat in of_result(result):
        log.warning("%s: %s", result.request.model, caveat)


def of_text(tokens: int, mlp_width: int) -> list[str]:
    """A sentence if C was taken over too few tokens for keys of that length."""
    enough = ENOUGH_TOKENS * mlp_width
    if tokens >= enough:
        return []
    return [
        f"C was taken over {tokens:,} tokens; P is settled from about {ENOUGH_TOKENS} × d_m = {enough:,} on. "
        f"Take more text."
    ]


def _layers(reports: Sequence[LayerReport], holds: Callable[[LayerReport], bool]) -> str:
    """The layers of which something holds, in words; empty if there are none."""
    found = [str(report.layer) for report in reports if holds(report)]
    if len(found) == len(reports) > 1:
        return "all layers"
    return f"layer{'s' if len(found) > 1 else ''} {', '.join(found)}" if found else ""
