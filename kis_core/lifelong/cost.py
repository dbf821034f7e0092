"""What a run of edits costs, to say so before it is begun: multiplications and additions, from shapes alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kis_core.analysis.requirements import block_parameters
from kis_core.editing import Hyperparameters, method

if TYPE_CHECKING:
    from kis_core.lifelong.request import LifelongRequest
    from kis_core.models.catalog import ModelEntry
    from kis_core.results.result import Result

WITH_GRADIENT = 3  # passes that a forward and a backward pass take together
READ_AT = 2  # positions of a sentence at which words are read, about: the answer's first token and the one after


def operations(result: Result, entry: ModelEntry, request: LifelongRequest) -> float:
    """Of a whole run, about: searches are taken to use all their steps, and what lies between the products is left out.

    Lengths in tokens are those of this result's facts, as far as the place of the subject's last token tells them.

    Args:
        result: of the facts that are looked at.
        entry: the model.
        request: the run.
    """
    to_subject, whole = _lengths(result)
    facts, measured = len(result.facts), request.edits // request.every + 1
    a_token, a_word = 2 * block_parameters(entry), 2 * (entry.parameters - block_parameters(entry))
    a_look = whole * a_token + READ_AT * a_word
    of_facts = measured * facts * (1 + WITH_GRADIENT) * a_look  # and with gradients renewed
    of_edits = request.edits * (1 + measured / 2) * a_look  # each when it was made, and at every measurement after it
    if not method(request.method).searches:
        return of_facts + of_edits + request.edits * request.how.steps * WITH_GRADIENT * a_look
    above = 1 - request.layers[0] / entry.layers
    tail = whole if request.how.everywhere else whole - to_subject
    a_step = WITH_GRADIENT * (tail * above * a_token + READ_AT * a_word)
    return of_facts + of_edits + request.edits * _contexts(request.how) * (request.how.steps * a_step + a_look)


def _contexts(how: Hyperparameters) -> int:
    """Texts that a search reads: the prompt, the prompt after each beginning, and what is said of the subject."""
    return 1 + sum(count for count, _ in how.prefixes) + bool(how.kl)


def _lengths(result: Result) -> tuple[float, float]:
    """Tokens before the subject's last one, and of a whole sentence, mean over facts; by the length of the text."""
    before = np.array(result.key_token_index, dtype=float)
    share = [fact.subject_span[1] / len(f"{fact.text} {fact.target}") for fact in result.facts.facts]
    return float(before.mean()), float(((before + 1) / share).mean())
