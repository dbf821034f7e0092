"""Whether an edit took, under its sentence: the scores of the field's tables, and what the model says now."""

from __future__ import annotations

from html import escape

import streamlit as st

from kis_core.editing import Probes
from kis_core.editing.scores import CONVENTIONS
from kis_core.simulator import EditOutcome
from kis_core.wording import MISSING, counted, number, share
from pages.parts.frame.text import plain

HEADS = ("new likelier than old", "exact match")
CELL = "vertical-align:top;padding:.1rem .8rem .1rem 0"
QUIET = f"{CELL};opacity:.75;font-weight:400;text-align:left"
WHOLE = "white-space:nowrap"


def success(outcome: EditOutcome, probes: Probes) -> None:
    """The scores before and after, what the model says, and by whose prompts it was judged."""
    _scores(outcome)
    measured = outcome.success
    first = "first choice" if measured.efficacy else "not the first choice"
    rows = [
        ("new object", f"{first}, {share(measured.probability_new)} (the old one {share(measured.probability_old)})"),
        ("it now says", f"… {measured.generated}"),
        ("it said", f"… {measured.generated_before}"),
    ]
    cells = "".join(
        f"<div style='opacity:.75;white-space:nowrap'>{name}</div><div>{escape(text)}</div>" for name, text in rows
    )
    st.html(f"<div style='display:grid;grid-template-columns:max-content 1fr;gap:.15rem .9rem'>{cells}</div>")
    judged_by = [
        _asked("paraphrase", len(probes.paraphrases), probes.source),
        _asked("neighbour", len(probes.neighbours), probes.neighbours_source),
    ]
    before, after = measured.scores_before, measured.scores
    magnitudes = ", ".join(
        f"{name} {number(getattr(before, name), '+.2f')} → {number(getattr(after, name), '+.2f')}"
        for name in ("EM", "PM", "NM")
    )
    meanings = "\n".join(f"- **{head}**: {plain(text)}" for head, text in zip(HEADS, CONVENTIONS, strict=True))
    st.caption(
        f"Judged by {plain('; '.join(judged_by))}.",
        help=f"Before → after the edit (ROME: arXiv 2202.05262; EasyEdit: arXiv 2308.07269).\n{meanings}\n\n"
        f"Here {magnitudes}.",
    )


def _scores(outcome: EditOutcome) -> None:
    before, after = outcome.success.scores_before, outcome.success.scores
    rows = [
        ("efficacy", _change(before.ES, after.ES), _change(before.rewrite_acc, after.rewrite_acc)),
        ("paraphrase", _change(before.PS, after.PS), _change(before.rephrase_acc, after.rephrase_acc)),
        (
            "neighbourhood<br><small>old likelier than new</small>",
            _change(before.NS, after.NS),
            f"{number(after.locality_acc, '.0%')} as before" if after.locality_acc is not None else MISSING,
        ),
    ]
    heads = "".join(f"<th scope='col' style='{QUIET}'>{head}</th>" for head in HEADS)
    lines = "".join(
        f"<tr><th scope='row' style='{QUIET};{WHOLE}'>{name}</th>"
        + "".join(f"<td style='{CELL};{WHOLE}'>{cell}</td>" for cell in cells)
        + "</tr>"
        for name, *cells in rows
    )
    st.html(
        f"<div style='overflow-x:auto'><table style='border-collapse:collapse;font-size:.95rem'>"
        f"<tr><td></td>{heads}</tr>{lines}</table></div>"
    )


def _change(before: float | None, after: float | None) -> str:
    return MISSING if after is None else f"{number(before, '.0%')} → {number(after, '.0%')}"


def _asked(noun: str, count: int, source: str) -> str:
    return f"{counted(count, noun)} ({source})" if count else f"no {noun}"
