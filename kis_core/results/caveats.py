"""Caveats to the numbers of a result: too little text behind C, a C that is badly conditioned, odd keys of facts."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence

from kis_core.errors import shown
from kis_core.results.pairs import NOTABLE, edited_key
from kis_core.results.result import LayerReport, Result
from kis_core.results.tags import FIRST_TOKEN, WEAK_KEY, FactTags
from kis_core.superposition.leverage import WEAK
from kis_core.wording import counted

log = logging.getLogger(__name__)

ENOUGH_TOKENS = 30  # a dimension of the key: P of the demo models then correlates 0.99 with P over all of their text


def of_result(result: Result) -> list[str]:
    """Sentences about too little text, about layers whose C is rank-deficient, and about those that got a ridge."""
    caveats = of_text(int(result.provenance["tokens_counted"]), result.mlp_width)
    singular = _layers(result.reports, lambda report: report.rank < result.mlp_width)
    if singular:
        lowest = min(report.rank for report in result.reports)
        caveats.append(f"C is rank-deficient in {singular}: rank {lowest} of d_m = {result.mlp_width} at the lowest.")
    ridged = _layers(result.reports, lambda report: report.ridge > 0)
    if ridged:
        caveats.append(f"C got a ridge in {ridged}: P there depends on it (statistics.csv of analyse has its size).")
    return caveats


def log_of(result: Result) -> None:
    """Log the caveats, for work on the results of several models."""
    for caveat in of_result(result):
        log.warning("%s: %s", shown(result.request.model), caveat)


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
    """The layers for which something holds, in words; empty if there are none."""
    numbers = [report.layer for report in reports if holds(report)]
    return "all layers" if len(numbers) == len(reports) > 1 else _numbered(numbers)


def _numbered(numbers: Sequence[int]) -> str:
    """Some layers by their numbers; empty if there are none."""
    return f"layer{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}" if numbers else ""


def of_tags(result: Result, layers: Sequence[int]) -> list[str]:
    """Sentences about keys at the first token, which statistics can leave out, and about weak keys, which they keep."""
    unknown = any(math.isnan(result.weak_below(layer)) for layer in layers)
    return tags_in_words({layer: result.tags(layer) for layer in layers}, unknown=unknown)


def tags_in_words(tags: Mapping[int, FactTags], *, unknown: bool) -> list[str]:
    """The same of the tags by layer; `unknown` says whether it is unknown of some layer which keys are weak."""
    some = next(iter(tags.values()))
    first, count = int(some.first.sum()), len(some.first)
    sentences = []
    if first:
        keys = counted(first, "key is", "keys are")
        sentences.append(
            f"{keys} taken at the first token, on which many models rest their attention; pairs in which such a fact "
            f"is edited are artefacts."
        )
    if unknown:
        sentences.append("Which keys are weak is unknown, as C came without the text it was taken over.")
    weak = {layer: int(of_layer.weak.sum()) for layer, of_layer in tags.items()}
    if found := [f"{number:,} at layer {layer}" for layer, number in weak.items() if number]:
        sentences.append(
            f"There are weak keys: {', '.join(found)}, of {counted(count, 'fact')}. An edit of such a fact "
            f"lands on many others; its pairs are tagged, and count in all statistics."
        )
    return sentences


def of_edit(result: Result, layer: int, e: int) -> list[str]:
    """What is to be said before fact e is edited at a layer, in whole sentences; nothing of an ordinary key."""
    key = edited_key(result, layer, e)
    subject, sentences = result.facts.facts[e].subject, []
    if FIRST_TOKEN in key.tags:
        sentences.append(
            f"The key of this fact is taken at the first token. Where a model rests its attention there, as many do, "
            f"the key says next to nothing of “{subject}”, and other sentences have it as well. Ask in a prompt in "
            f"which something stands before the subject."
        )
    if WEAK_KEY in key.tags:
        strong = [other for other in result.layers if not result.tags(other).weak[e]]
        sentences.append(
            f"The key of this fact is weak at layer {layer}: its leverage, {key.leverage:,.3g}, is below that of "
            f"{100 * (1 - WEAK):.0f} % of general text. "
            + (f"It is not weak at {_numbered(strong)}." if strong else "It is weak at every layer computed.")
        )
    if sentences and key.largest is not None:
        worst = result.facts.facts[key.largest].subject
        sentences.append(
            f"An edit of it (eq. 2) lands on {key.leaks:,} of {counted(key.others, 'other fact')} by "
            f"{100 * NOTABLE:.0f} % or more, most on “{worst}”, with P = {key.p:+.2f}."
        )
    return sentences
