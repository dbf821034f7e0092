"""Progress of long work: it reports its stages, and is cancelled through its reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Report = Callable[[str, int, int], None]
"""A function called with (stage, done, total) after each batch. To stop the work, it raises `Cancelled`."""


class Cancelled(Exception):
    """The work was cancelled; only the parts of it that were already stored are kept."""


def silent(stage: str, done: int, total: int) -> None:
    """A report that nobody reads."""


STAGES = {
    "Reading facts and text": 0.02,
    "Downloading the model": 0.0,  # reported in bytes: the time it takes does not depend on the analysis
    "Loading the model": 0.20,
    "Keys of the facts": 0.05,
    "The model's own answers": 0.08,
    "Second moment of the keys": 0.55,
    "Whitening": 0.10,
}
"""Stages of an analysis in order, with their rough share of the time: for the progress bar only."""

EDIT_STAGES = {
    "Loading the model": 0.45,
    "Gradients of the facts' answers": 0.15,
    "Second moment of the keys": 0.05,
    "Searching for the value": 0.35,
}
"""The same for preparing an edit."""

MEASURE_STAGES = {"Measuring every fact": 0.5, "The propagated forecast": 0.2, "Whether the edit took": 0.3}
"""The same for performing an edit and measuring it."""

LIFELONG_STAGES = {
    "Loading the model": 0.08,
    "Gradients of the facts' answers": 0.02,
    "Choosing the edits": 0.05,
    "Editing, one after another": 0.85,
}
"""The same for a sequence of edits."""

BUDGET_STAGES = {
    "Loading the model": 0.05,
    "Gradients of the facts' answers": 0.02,
    "Choosing the edits": 0.03,
    "Searching for pilot edits": 0.5,
    "Making stand-in edits": 0.4,
}
"""The same for forecasting a sequence of edits."""

ADVICE_STAGES = {"Trying the layers": 1.0}
"""The same for trying one edit in every layer."""


def overall(stage: str, done: int, total: int, stages: Mapping[str, float] = STAGES) -> float:
    """Share of the whole work that is done, between 0 and 1; 0 for a stage outside `stages`."""
    if stage not in stages:
        return 0.0
    names = list(stages)
    before = sum(stages[name] for name in names[: names.index(stage)])
    return min(1.0, before + stages[stage] * (done / total if total else 1.0))
