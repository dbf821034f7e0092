"""The edit trace: what was forecast and measured of a sequence of edits, step by step."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from kis_core.store.store import Entry

STEPS = (
    "steps", "log_odds", "log_prob", "rank", "subject_token", "all_tokens", "renewed", "shift", "shift_forecast",
    "shift_error",
    "edited_log_odds", "edited_log_prob", "edited_rank", "edited_shift", "edited_shift_forecast", "edited_shift_error",
    "drift", "condition", "perplexity",
)  # fmt: skip
"""Arrays with one row a measured step."""
OF_EDITS = (
    "edited_log_odds", "edited_log_prob", "edited_rank", "edited_shift", "edited_shift_forecast", "edited_shift_error",
)  # fmt: skip
"""Those of them with one column an edit; before the edit is made it holds NaN, or 0 for a rank."""
EDITS = ("took", "made", "own_key", "size", "contributions", "shares")
"""Arrays with one row an edit."""
OF_RESULT = "result"  # in what a stored trace says about itself: the identity of the result that the edits are of


@dataclass(frozen=True, eq=False)
class EditTrace:
    """A run as far as it went: s measured steps, n edits, m unrelated facts.

    Attributes:
        queue: subject, prompt, object, relation and new object of each edit.
        unrelated: (m,) numbers of the unrelated facts in the fact set.
        steps: (s,) how many edits had been made; the first is 0.
        log_odds, log_prob: (s, m) of the right answers to the unrelated facts.
        rank: (s, m), 1 where the model answers right.
        subject_token, all_tokens: (s, m) forecast change of log-odds: the first-order forecasts of all edits so far,
            each from the gradients of the unedited model, added up.
        renewed: (s, m) the same over all tokens with gradients taken anew at every measurement: the forecast
            for the edits since the measurement before, added up.
        shift: (s, m) ‖Δo‖, how far the output of the first edited layer at the subject's last token moved: measured.
        shift_forecast: (s, m) ‖Σ_i p(k_ei, k_j) δ_i‖ (eq. 11).
        shift_error: (s, m) the norm of their difference.
        edited_log_odds, edited_log_prob, edited_rank: (s, n) the same of the new objects of the facts edited.
        edited_shift, edited_shift_forecast, edited_shift_error: (s, n) Δe (eq. 15): how far what an edit wrote was
            moved by the edits after it.
        drift: (s, layers) ‖W_n - W_0‖ / ‖W_0‖.
        condition: (s, layers) largest over smallest singular value of W_n.
        perplexity: (s,) on text held out.
        words: for each step what the model goes on to say: pairs of prompt and continuation.
        took: (n,) booleans, the edit had its new object as first choice right after it was made.
        made: (n,) booleans, False where an edit could not be made and was passed over.
        own_key: (n,) booleans, the mean key over contexts had next to nothing of the prompt's own, which took its place
            (`editing.PerformedEdit`).
        size: (n,) ‖ΔW‖ of each edit, over all layers.
        contributions: (n, m) forecast change of the unrelated facts' log-odds by each edit, over all tokens.
        shares: (n, m) p(k_ei, k_j), the share of each edit that lands on each unrelated fact's subject in the first
            edited layer; NaN for a method whose edits have no such share.
        text: where the text behind the perplexity is from, in words.
    """

    queue: tuple[tuple[str, ...], ...]
    unrelated: np.ndarray
    steps: np.ndarray
    log_odds: np.ndarray
    log_prob: np.ndarray
    rank: np.ndarray
    subject_token: np.ndarray
    all_tokens: np.ndarray
    renewed: np.ndarray
    shift: np.ndarray
    shift_forecast: np.ndarray
    shift_error: np.ndarray
    edited_log_odds: np.ndarray
    edited_log_prob: np.ndarray
    edited_rank: np.ndarray
    edited_shift: np.ndarray
    edited_shift_forecast: np.ndarray
    edited_shift_error: np.ndarray
    drift: np.ndarray
    condition: np.ndarray
    perplexity: np.ndarray
    words: tuple[tuple[tuple[str, str], ...], ...]
    took: np.ndarray
    made: np.ndarray
    own_key: np.ndarray
    size: np.ndarray
    contributions: np.ndarray
    shares: np.ndarray
    text: str

    @property
    def edits(self) -> int:
        """How many edits were made and measured."""
        return int(self.steps[-1]) if len(self.steps) else 0

    def until(self, edits: int) -> EditTrace:
        """The trace up to so many edits, or as far as it went."""
        kept = int((self.steps <= edits).sum())
        count = int(self.steps[kept - 1])
        parts: dict[str, Any] = {name: getattr(self, name)[:kept] for name in STEPS}
        parts |= {name: parts[name][:, :count] for name in OF_EDITS}
        parts |= {name: getattr(self, name)[:count] for name in EDITS}
        return replace(self, queue=self.queue[:count], words=self.words[:kept], **parts)

    def at(self, step: int) -> int:
        """Row of the last measurement at or before so many edits."""
        return max(0, int(np.searchsorted(self.steps, step, side="right")) - 1)


def to_entry(trace: EditTrace) -> Entry:
    """A trace as it is stored."""
    meta = {"queue": [list(edit) for edit in trace.queue], "words": [list(map(list, step)) for step in trace.words]}
    arrays = {f.name: getattr(trace, f.name) for f in fields(trace) if f.name not in (*meta, "text")}
    return Entry(meta | {"text": trace.text}, {name: _plain(array) for name, array in arrays.items()})


def from_entry(entry: Entry) -> EditTrace:
    """The trace that `to_entry` wrote; other arrays of the entry are passed over."""
    known = {f.name for f in fields(EditTrace)}
    arrays: dict[str, Any] = {name: array for name, array in entry.arrays.items() if name in known}
    arrays |= {name: arrays[name].astype(bool) for name in ("took", "made", "own_key")}
    words = tuple(tuple((prompt, said) for prompt, said in step) for step in entry.meta["words"])
    return EditTrace(queue=tuple(map(tuple, entry.meta["queue"])), words=words, text=entry.meta["text"], **arrays)


def _plain(array: np.ndarray) -> np.ndarray:
    return array.astype(np.uint8) if array.dtype == bool else array
