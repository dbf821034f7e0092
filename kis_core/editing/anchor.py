"""Norm-anchor scaling (NAS): the norm that values have in the unedited model (Liu et al., arXiv 2602.02543).

Edits damage a model; on a damaged model the value that makes it say the new object is larger; a larger value damages
more. To break this loop every v* is rescaled to one norm, the anchor: the mean ‖v*‖ over edits of other facts, each
searched for on the unedited model, the largest 5 % left out, as in the authors' code (there over 1,000 edits of
CounterFact, in their prompts alone, by MEMIT's search; here over fewer, by the search of the method itself).
`Value.rescaled` is what is done with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kis_core import progress
from kis_core.editing.edit import EditError
from kis_core.editing.method import Method, RequestedEdit, Site
from kis_core.facts.known import KnownFacts

EDITS = 20  # the mean is then within about a fifteenth of that over many, where norms differ by a third
LEFT_OUT = 0.05
LIKELY_OBJECTS = 5  # a new object is one of the most frequent ones of the relation


def edits(known: KnownFacts, count: int) -> list[RequestedEdit]:
    """The edits that an anchor is measured by: at random among those that can be made of a model's facts."""
    rng, facts = np.random.default_rng(0), known.pool
    chosen: list[RequestedEdit] = []
    for at in rng.permutation(len(facts)).tolist():
        if len(chosen) == count:
            break
        if objects := known.new_objects(facts[at])[:LIKELY_OBJECTS]:
            chosen.append(RequestedEdit(facts[at], objects[int(rng.integers(len(objects)))]))
    return chosen


def layers(method: Method, chosen: Sequence[int]) -> Sequence[int]:
    """The layers that a method searches for values in: the last, where it spreads one over all of them."""
    return chosen[-1:] if method.spreads else chosen


def norms(
    method: Method, site: Site, requested: Sequence[RequestedEdit], report: progress.Report = progress.silent
) -> list[float]:
    """‖v*‖ of each edit as the method makes it, by itself, on the unedited model.

    Args:
        method: that writes the values.
        site: the model, and one layer.
        requested: the edits; those that cannot be made are left out.
        report: called as the searches go on.

    Raises:
        EditError: none of them can be made.
    """
    unedited = replace(site, standing=(), past={}, anchors={}, hyperparameters=replace(site.hyperparameters, nas=False))
    found: list[float] = []
    why = "there is none"
    for edit in requested:
        try:
            found += [made.value_norm for made in method.perform(unedited, [edit], report)]
        except EditError as error:
            why = str(error)
    if not found:
        raise EditError(f"no norm to rescale the values of {method.label} to could be measured (NAS): {why}")
    return found


def trimmed_mean(found: Sequence[float]) -> float:
    """The mean of what is left without the largest 5 %, rounded down to whole edits."""
    return float(np.sort(found)[: len(found) - int(LEFT_OUT * len(found))].mean())
