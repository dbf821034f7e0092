"""Data frames of an edit trace: what charts draw and files hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from kis_core.facts import Fact
from kis_core.lifelong.summary import newest, recall, retention
from kis_core.lifelong.trace import EditTrace
from kis_core.results.pairs import label_of

AGES = ((0, 9), (10, 24), (25, 49), (50, 99), (100, 199), (200, 2000))  # edits since an edit was made
SHORT_SHARE = 0.25  # of the measured loss: a forecast of less falls short
SHIFTS = {
    "shift_measured": "Δo measured",
    "shift_forecast": "Δo = Σ p·δ",
    "edited_shift_measured": "Δe measured",
    "edited_shift_forecast": "Δe = Σ p·δ",
}
GROWTH = {"size": "‖ΔW‖ of an edit", "drift": "‖Wₙ − W₀‖ / ‖W₀‖"}
KINDS = {
    "measured": "measured",
    "renewed": "forecast, gradients renewed",
    "all": "forecast, all tokens",
    "subject": "forecast, subject token",
}


def curve(trace: EditTrace) -> pd.DataFrame:
    """One row a measured step: everything that is one number then.

    Returns:
        columns `edits`; `recall` of unrelated facts, `probability` (geometric mean of their right answers) and `rank`
        (median); `retention` of the edits so far, `edited_probability`, `newest_took`; `dlogodds_measured`,
        `dlogodds_subject_token`, `dlogodds_all_tokens`, `dlogodds_renewed` (means over unrelated facts);
        `shift_measured`, `shift_forecast` (root mean squares), `shift_error` (relative, over all facts), the
        same of the edited facts with `edited_`; `drift`, `condition` (of the first edited layer), `perplexity`;
        `edit_size`, the mean ‖ΔW‖ of the edits since the step before.
    """
    change = trace.log_odds - trace.log_odds[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = _norm(trace.shift_error) / _norm(trace.shift)
        edited_errors = _norm(trace.edited_shift_error) / _norm(trace.edited_shift)
    return pd.DataFrame(
        {
            "edits": trace.steps,
            "recall": recall(trace),
            "probability": np.exp(_mean(trace.log_prob)),
            "rank": np.median(trace.rank, axis=1) if trace.rank.shape[1] else np.nan,
            "retention": retention(trace),
            "edited_probability": np.exp(_mean(trace.edited_log_prob)),
            "newest_took": newest(trace),
            "dlogodds_measured": _mean(change),
            "dlogodds_subject_token": _mean(trace.subject_token),
            "dlogodds_all_tokens": _mean(trace.all_tokens),
            "dlogodds_renewed": _mean(trace.renewed),
            "shift_measured": _norm(trace.shift) / np.sqrt(max(1, trace.shift.shape[1])),
            "shift_forecast": _norm(trace.shift_forecast) / np.sqrt(max(1, trace.shift.shape[1])),
            "shift_error": errors,
            "edited_shift_measured": _norm(trace.edited_shift) / np.sqrt(np.maximum(1, trace.steps)),
            "edited_shift_forecast": _norm(trace.edited_shift_forecast) / np.sqrt(np.maximum(1, trace.steps)),
            "edited_shift_error": edited_errors,
            "drift": trace.drift[:, 0],
            "condition": trace.condition[:, 0],
            "perplexity": trace.perplexity,
            "edit_size": _sizes(trace),
        }
    )


def holding(traces: Mapping[str, EditTrace]) -> pd.DataFrame:
    """What still holds in each run, by name; columns `run`, `edits`, `series` ("unrelated", "edited"), `share`."""
    parts = [pd.DataFrame({"run": [], "edits": [], "series": [], "share": []})]
    for name, trace in traces.items():
        for series, shares in (("unrelated", recall(trace)), ("edited", retention(trace))):
            parts.append(pd.DataFrame({"run": name, "edits": trace.steps, "series": series, "share": shares}))
    return pd.concat(parts[1:] or parts, ignore_index=True)


def measures(trace: EditTrace) -> pd.DataFrame:
    """How far the weights went and how the model reads; columns `edits`, `kind`, `change`."""
    values = {"drift": trace.drift[:, 0], "condition": trace.condition[:, 0], "perplexity": trace.perplexity}
    return pd.concat(
        [pd.DataFrame({"edits": trace.steps, "kind": name, "change": value}) for name, value in values.items()],
        ignore_index=True,
    )


def growth(trace: EditTrace) -> pd.DataFrame:
    """How large edits are, and how far they moved the first edited layer; columns `edits`, `kind`, `change`.

    From the first measurement after an edit on: before it, nothing has grown.
    """
    values, steps = {"size": _sizes(trace), "drift": trace.drift[:, 0]}, trace.steps[1:]
    return pd.concat(
        [pd.DataFrame({"edits": steps, "kind": GROWTH[name], "change": own[1:]}) for name, own in values.items()],
        ignore_index=True,
    )


def _sizes(trace: EditTrace) -> np.ndarray:
    """Mean ‖ΔW‖ of the edits since the step before that were made; NaN where there is none."""
    parts = [trace.size[:0], *(trace.size[a:b][trace.made[a:b]] for a, b in pairwise(trace.steps.tolist()))]
    return np.array([part.mean() if len(part) else np.nan for part in parts])


def facts(trace: EditTrace, looked_at: Sequence[Fact], rows: Sequence[int] | None = None) -> pd.DataFrame:
    """One row a fact and step: unrelated facts with forecast and measurement, and the facts edited so far.

    Args:
        trace: the run.
        looked_at: the fact set.
        rows: which measured steps; all by default.

    Returns:
        columns `edits`, `kind` ("unrelated" or "edited"), `index` (in the fact set, or number of the edit), `subject`,
        `answer` (the right one), `age` (edits since it was edited; NaN for unrelated), `probability`, `rank`,
        `dlogodds_measured`, `dlogodds_subject_token`, `dlogodds_all_tokens`, `dlogodds_renewed` (NaN for edited),
        `shift_measured`, `shift_forecast`.
    """
    parts = []
    for row in range(len(trace.steps)) if rows is None else rows:
        made = int(trace.steps[row])
        unrelated = {
            "edits": made,
            "kind": "unrelated",
            "index": trace.unrelated,
            "subject": [looked_at[j].subject for j in trace.unrelated],
            "answer": [looked_at[j].target for j in trace.unrelated],
            "age": np.nan,
            "probability": np.exp(trace.log_prob[row]),
            "rank": trace.rank[row],
            "dlogodds_measured": trace.log_odds[row] - trace.log_odds[0],
            "dlogodds_subject_token": trace.subject_token[row],
            "dlogodds_all_tokens": trace.all_tokens[row],
            "dlogodds_renewed": trace.renewed[row],
            "shift_measured": trace.shift[row],
            "shift_forecast": trace.shift_forecast[row],
        }
        edited = {
            "edits": made,
            "kind": "edited",
            "index": np.arange(made),
            "subject": [edit[0] for edit in trace.queue[:made]],
            "answer": [edit[4] for edit in trace.queue[:made]],
            "age": made - 1.0 - np.arange(made),
            "probability": np.exp(trace.edited_log_prob[row, :made]),
            "rank": trace.edited_rank[row, :made],
            "dlogodds_measured": trace.edited_log_odds[row, :made] - _first(trace)[:made],
            "dlogodds_subject_token": np.nan,
            "dlogodds_all_tokens": np.nan,
            "dlogodds_renewed": np.nan,
            "shift_measured": trace.edited_shift[row, :made],
            "shift_forecast": trace.edited_shift_forecast[row, :made],
        }
        parts += [pd.DataFrame(unrelated), *([pd.DataFrame(edited)] if made else [])]
    return pd.concat(parts, ignore_index=True)


def by_age(trace: EditTrace) -> pd.DataFrame:
    """Share of the edits still in force, by how many edits ago they were made.

    Returns:
        columns `edits`, `age` (a group, in words), `share`, `count`.
    """
    rows = []
    for row, made in enumerate(trace.steps.tolist()):
        ages = made - 1 - np.arange(made)
        for low, high in AGES:
            of_age = (ages >= low) & (ages <= high)
            if of_age.any():
                share = float((trace.edited_rank[row, :made][of_age] == 1).mean())
                rows.append((made, age_label(low, high), share, int(of_age.sum())))
    return pd.DataFrame(rows, columns=["edits", "age", "share", "count"])


def age_label(low: int, high: int) -> str:
    """An age group in words."""
    return f"{low}+ edits ago" if high == AGES[-1][1] else f"{low}–{high} edits ago"


def theory(trace: EditTrace) -> pd.DataFrame:
    """Mean change of log-odds of the unrelated facts, measured and forecast; columns `edits`, `kind`, `change`."""
    return _long(trace, {name: _mean(values) for name, values in changes(trace).items()})


def changes(trace: EditTrace) -> dict[str, np.ndarray]:
    """Change of the unrelated facts' log-odds, (s, m), by the names of `KINDS`."""
    return {
        "measured": trace.log_odds - trace.log_odds[0],
        "renewed": trace.renewed,
        "all": trace.all_tokens,
        "subject": trace.subject_token,
    }


def _long(trace: EditTrace, values: Mapping[str, np.ndarray]) -> pd.DataFrame:
    return pd.concat(
        [pd.DataFrame({"edits": trace.steps, "kind": KINDS[name], "change": value}) for name, value in values.items()],
        ignore_index=True,
    )


def mean_changes(trace: EditTrace, row: int) -> tuple[float, float]:
    """Mean change of the unrelated facts' log-odds at a measured step: measured, and forecast over all tokens."""
    measured, forecast = _mean(trace.log_odds - trace.log_odds[0]), _mean(trace.all_tokens)
    return float(measured[row]), float(forecast[row])


def falls_short(trace: EditTrace, row: int) -> bool:
    """Whether first order explains so little of a measured mean loss that the page says so (`SHORT_SHARE`)."""
    measured, forecast = mean_changes(trace, row)
    return measured < 0 and forecast > measured * SHORT_SHARE


def shifts(trace: EditTrace) -> pd.DataFrame:
    """‖Δo‖ and ‖Δe‖ at the first edited layer, root mean squares over facts; columns `edits`, `kind`, `change`."""
    by_step = curve(trace)
    return pd.concat(
        [
            pd.DataFrame({"edits": by_step["edits"], "kind": kind, "change": by_step[column]})
            for column, kind in SHIFTS.items()
        ],
        ignore_index=True,
    )


def damage(trace: EditTrace, looked_at: Sequence[Fact], by: str = "measured") -> pd.DataFrame:
    """Change of log-odds of every unrelated fact at every measured step, the first to fall on top.

    Args:
        trace: the run.
        looked_at: the fact set.
        by: a name in `KINDS`.

    Returns:
        columns `row`, `fact`, `told`, `from`, `to` (edits: where the step's cell begins and ends), `change`, `rank`,
        `answers` ("right" or "wrong").
    """
    shown = changes(trace)[by]
    order = falling_order(trace)
    steps, facts_ = len(trace.steps), len(trace.unrelated)
    place = np.empty(facts_, dtype=int)
    place[order] = np.arange(facts_)
    ends = np.append(trace.steps[1:], trace.steps[-1] + (trace.steps[-1] - trace.steps[-2] if steps > 1 else 1))
    names = [label_of(looked_at[j]) for j in trace.unrelated]
    return pd.DataFrame(
        {
            "row": np.tile(place, steps),
            "fact": np.tile(trace.unrelated, steps),
            "told": names * steps,
            "from": np.repeat(trace.steps, facts_),
            "to": np.repeat(ends, facts_),
            "change": shown.ravel(),
            "rank": trace.rank.ravel(),
            "answers": np.where(trace.rank.ravel() == 1, "right", "wrong"),
        }
    )


def falling_order(trace: EditTrace) -> np.ndarray:
    """Columns of the unrelated facts, those that were forgotten first and longest in front."""
    wrong = (trace.rank != 1).sum(axis=0)
    last = np.nan_to_num(trace.log_odds[-1], nan=-np.inf)
    return np.lexsort((last, -wrong))


def turned(trace: EditTrace, row: int) -> tuple[list[int], list[int]]:
    """Unrelated facts, by number, answered right at the measurement before and wrong now; and the other way round."""
    if not row:
        return [], []
    before, now = trace.rank[row - 1] == 1, trace.rank[row] == 1
    return trace.unrelated[before & ~now].tolist(), trace.unrelated[~before & now].tolist()


def history(trace: EditTrace, column: int) -> pd.DataFrame:
    """What became of one unrelated fact; columns `edits`, `kind`, `change`."""
    return _long(trace, {name: values[:, column] for name, values in changes(trace).items()})


def culprits(trace: EditTrace, column: int, row: int, most: int = 8) -> pd.DataFrame:
    """The edits so far that, by the forecast, hurt an unrelated fact most.

    Returns:
        columns `edit` (from 1), `subject`, `change` (its new object), `p` (share that lands on the fact; NaN where the
        method has none), `dlogodds_all_tokens`.
    """
    made = int(trace.steps[row])
    felt = trace.contributions[:made, column]
    worst = np.argsort(felt, kind="stable")[:most]
    return pd.DataFrame(
        {
            "edit": worst + 1,
            "subject": [trace.queue[i][0] for i in worst],
            "change": [f"{trace.queue[i][2]} → {trace.queue[i][4]}" for i in worst],
            "p": trace.shares[worst, column],
            "dlogodds_all_tokens": felt[worst],
        }
    )


def _first(trace: EditTrace) -> np.ndarray:
    """Log-odds of each edit's new object when it was first measured, (n,)."""
    there = np.isfinite(trace.edited_log_odds)
    rows = there.argmax(axis=0)
    return np.asarray(trace.edited_log_odds[rows, np.arange(trace.edited_log_odds.shape[1])])


def _mean(values: np.ndarray) -> np.ndarray:
    """Means over what is finite in each row; NaN where nothing is."""
    there = np.isfinite(values)
    counts = there.sum(axis=1)
    sums = np.where(there, values, 0.0).sum(axis=1)
    return np.asarray(np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0))


def _norm(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt((np.nan_to_num(values) ** 2).sum(axis=1)))
