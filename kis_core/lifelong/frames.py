"""What is drawn and written of a run, as data frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from kis_core.facts import Fact
from kis_core.lifelong.summary import newest, recall, retention
from kis_core.lifelong.trace import EditTrace
from kis_core.results.pairs import told

AGES = ((0, 9), (10, 24), (25, 49), (50, 99), (100, 199), (200, 2000))  # edits since an edit was made
SHIFTS = {
    "shift_measured": "Δo measured", "shift_forecast": "Δo = Σ p·δ", "edited_shift_measured": "Δe measured",
    "edited_shift_forecast": "Δe = Σ p·δ",
}  # fmt: skip
KINDS = {
    "measured": "measured", "renewed": "forecast, gradients renewed", "all": "forecast, all tokens",
    "subject": "forecast, subject token",
}  # fmt: skip


def curve(film: EditTrace) -> pd.DataFrame:
    """One row a measured step: everything that is one number then.

    Returns:
        columns `edits`; `recall` of unrelated facts, `probability` (geometric mean of their right answers) and `rank`
        (median); `retention` of the edits so far, `edited_probability`, `newest_took`; `dlogodds_measured`,
        `dlogodds_subject_token`, `dlogodds_all_tokens`, `dlogodds_renewed` (means over unrelated facts);
        `shift_measured`, `shift_forecast` (root mean squares), `shift_error` (relative, over all facts), the
        same of the edited facts with `edited_`; `drift`, `condition` (of the first edited layer), `perplexity`.
    """
    change = film.log_odds - film.log_odds[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = _norm(film.shift_error) / _norm(film.shift)
        edited_errors = _norm(film.edited_shift_error) / _norm(film.edited_shift)
    return pd.DataFrame(
        {
            "edits": film.steps,
            "recall": recall(film),
            "probability": np.exp(_mean(film.log_prob)),
            "rank": np.median(film.rank, axis=1) if film.rank.shape[1] else np.nan,
            "retention": retention(film),
            "edited_probability": np.exp(_mean(film.edited_log_prob)),
            "newest_took": newest(film),
            "dlogodds_measured": _mean(change),
            "dlogodds_subject_token": _mean(film.subject_token),
            "dlogodds_all_tokens": _mean(film.all_tokens),
            "dlogodds_renewed": _mean(film.renewed),
            "shift_measured": _norm(film.shift) / np.sqrt(max(1, film.shift.shape[1])),
            "shift_forecast": _norm(film.shift_forecast) / np.sqrt(max(1, film.shift.shape[1])),
            "shift_error": errors,
            "edited_shift_measured": _norm(film.edited_shift) / np.sqrt(np.maximum(1, film.steps)),
            "edited_shift_forecast": _norm(film.edited_shift_forecast) / np.sqrt(np.maximum(1, film.steps)),
            "edited_shift_error": edited_errors,
            "drift": film.drift[:, 0],
            "condition": film.condition[:, 0],
            "perplexity": film.perplexity,
        }
    )


def holding(films: Mapping[str, EditTrace]) -> pd.DataFrame:
    """What still holds in each run, by name; columns `run`, `edits`, `series` ("unrelated", "edited"), `share`."""
    parts = [pd.DataFrame({"run": [], "edits": [], "series": [], "share": []})]
    for name, film in films.items():
        for series, shares in (("unrelated", recall(film)), ("edited", retention(film))):
            parts.append(pd.DataFrame({"run": name, "edits": film.steps, "series": series, "share": shares}))
    return pd.concat(parts[1:] or parts, ignore_index=True)


def measures(film: EditTrace) -> pd.DataFrame:
    """How far the weights went and how the model reads; columns `edits`, `kind`, `change`."""
    values = {"drift": film.drift[:, 0], "condition": film.condition[:, 0], "perplexity": film.perplexity}
    return pd.concat(
        [pd.DataFrame({"edits": film.steps, "kind": name, "change": value}) for name, value in values.items()],
        ignore_index=True,
    )


def facts(film: EditTrace, looked_at: Sequence[Fact], rows: Sequence[int] | None = None) -> pd.DataFrame:
    """One row a fact and step: unrelated facts with what was foretold and measured, and the facts edited so far.

    Args:
        film: the run.
        looked_at: the fact set.
        rows: which measured steps; all by default.

    Returns:
        columns `edits`, `kind` ("unrelated" or "edited"), `index` (in the fact set, or number of the edit), `subject`,
        `answer` (the right one), `age` (edits since it was edited; NaN for unrelated), `probability`, `rank`,
        `dlogodds_measured`, `dlogodds_subject_token`, `dlogodds_all_tokens`, `dlogodds_renewed` (NaN for edited),
        `shift_measured`, `shift_forecast`.
    """
    parts = []
    for row in range(len(film.steps)) if rows is None else rows:
        made = int(film.steps[row])
        unrelated = {
            "edits": made,
            "kind": "unrelated",
            "index": film.unrelated,
            "subject": [looked_at[j].subject for j in film.unrelated],
            "answer": [looked_at[j].target for j in film.unrelated],
            "age": np.nan,
            "probability": np.exp(film.log_prob[row]),
            "rank": film.rank[row],
            "dlogodds_measured": film.log_odds[row] - film.log_odds[0],
            "dlogodds_subject_token": film.subject_token[row],
            "dlogodds_all_tokens": film.all_tokens[row],
            "dlogodds_renewed": film.renewed[row],
            "shift_measured": film.shift[row],
            "shift_forecast": film.shift_forecast[row],
        }
        edited = {
            "edits": made,
            "kind": "edited",
            "index": np.arange(made),
            "subject": [one[0] for one in film.queue[:made]],
            "answer": [one[4] for one in film.queue[:made]],
            "age": made - 1.0 - np.arange(made),
            "probability": np.exp(film.edited_log_prob[row, :made]),
            "rank": film.edited_rank[row, :made],
            "dlogodds_measured": film.edited_log_odds[row, :made] - _first(film)[:made],
            "dlogodds_subject_token": np.nan,
            "dlogodds_all_tokens": np.nan,
            "dlogodds_renewed": np.nan,
            "shift_measured": film.edited_shift[row, :made],
            "shift_forecast": film.edited_shift_forecast[row, :made],
        }
        parts += [pd.DataFrame(unrelated), *([pd.DataFrame(edited)] if made else [])]
    return pd.concat(parts, ignore_index=True)


def by_age(film: EditTrace) -> pd.DataFrame:
    """Share of the edits still in force, by how many edits ago they were made.

    Returns:
        columns `edits`, `age` (a group, in words), `share`, `count`.
    """
    rows = []
    for row, made in enumerate(film.steps.tolist()):
        ages = made - 1 - np.arange(made)
        for low, high in AGES:
            of_age = (ages >= low) & (ages <= high)
            if of_age.any():
                share = float((film.edited_rank[row, :made][of_age] == 1).mean())
                rows.append((made, age_told(low, high), share, int(of_age.sum())))
    return pd.DataFrame(rows, columns=["edits", "age", "share", "count"])


def age_told(low: int, high: int) -> str:
    """An age group in words."""
    return f"{low}+ edits ago" if high == AGES[-1][1] else f"{low}–{high} edits ago"


def theory(film: EditTrace) -> pd.DataFrame:
    """Mean change of log-odds of the unrelated facts, measured and foretold; columns `edits`, `kind`, `change`."""
    return _long(film, {name: _mean(values) for name, values in changes(film).items()})


def changes(film: EditTrace) -> dict[str, np.ndarray]:
    """Change of the unrelated facts' log-odds, (s, m), by the names of `KINDS`."""
    return {
        "measured": film.log_odds - film.log_odds[0], "renewed": film.renewed, "all": film.all_tokens,
        "subject": film.subject_token,
    }  # fmt: skip


def _long(film: EditTrace, values: Mapping[str, np.ndarray]) -> pd.DataFrame:
    return pd.concat(
        [pd.DataFrame({"edits": film.steps, "kind": KINDS[name], "change": value}) for name, value in values.items()],
        ignore_index=True,
    )


def mean_changes(film: EditTrace, row: int) -> tuple[float, float]:
    """Mean change of the unrelated facts' log-odds at a measured step: measured, and foretold over all tokens."""
    measured, foretold = _mean(film.log_odds - film.log_odds[0]), _mean(film.all_tokens)
    return float(measured[row]), float(foretold[row])


def shifts(film: EditTrace) -> pd.DataFrame:
    """‖Δo‖ and ‖Δe‖ at the first edited layer, root mean squares over facts; columns `edits`, `kind`, `change`."""
    told = curve(film)
    return pd.concat(
        [
            pd.DataFrame({"edits": told["edits"], "kind": kind, "change": told[column]})
            for column, kind in SHIFTS.items()
        ],
        ignore_index=True,
    )


def damage(film: EditTrace, looked_at: Sequence[Fact], by: str = "measured") -> pd.DataFrame:
    """Change of log-odds of every unrelated fact at every measured step, the first to fall on top.

    Args:
        film: the run.
        looked_at: the fact set.
        by: a name in `KINDS`.

    Returns:
        columns `row`, `fact`, `told`, `from`, `to` (edits: where the step's cell begins and ends), `change`, `rank`,
        `answers` ("right" or "wrong").
    """
    shown = changes(film)[by]
    order = falling_order(film)
    steps, facts_ = len(film.steps), len(film.unrelated)
    place = np.empty(facts_, dtype=int)
    place[order] = np.arange(facts_)
    ends = np.append(film.steps[1:], film.steps[-1] + (film.steps[-1] - film.steps[-2] if steps > 1 else 1))
    names = [told(looked_at[j]) for j in film.unrelated]
    return pd.DataFrame(
        {
            "row": np.tile(place, steps),
            "fact": np.tile(film.unrelated, steps),
            "told": names * steps,
            "from": np.repeat(film.steps, facts_),
            "to": np.repeat(ends, facts_),
            "change": shown.ravel(),
            "rank": film.rank.ravel(),
            "answers": np.where(film.rank.ravel() == 1, "right", "wrong"),
        }
    )


def falling_order(film: EditTrace) -> np.ndarray:
    """Columns of the unrelated facts, those that were forgotten first and longest in front."""
    wrong = (film.rank != 1).sum(axis=0)
    last = np.nan_to_num(film.log_odds[-1], nan=-np.inf)
    return np.lexsort((last, -wrong))


def turned(film: EditTrace, row: int) -> tuple[list[int], list[int]]:
    """Unrelated facts, by number, answered right at the measurement before and wrong now; and the other way round."""
    if not row:
        return [], []
    before, now = film.rank[row - 1] == 1, film.rank[row] == 1
    return film.unrelated[before & ~now].tolist(), film.unrelated[~before & now].tolist()


def history(film: EditTrace, column: int) -> pd.DataFrame:
    """What became of one unrelated fact; columns `edits`, `kind`, `change`."""
    return _long(film, {name: values[:, column] for name, values in changes(film).items()})


def culprits(film: EditTrace, column: int, row: int, most: int = 8) -> pd.DataFrame:
    """The edits so far that are foretold to have hurt an unrelated fact most.

    Returns:
        columns `edit` (from 1), `subject`, `change` (its new object), `p` (share that lands on the fact; NaN where the
        method has none), `dlogodds_all_tokens`.
    """
    made = int(film.steps[row])
    felt = film.contributions[:made, column]
    worst = np.argsort(felt, kind="stable")[:most]
    return pd.DataFrame(
        {
            "edit": worst + 1,
            "subject": [film.queue[i][0] for i in worst],
            "change": [f"{film.queue[i][2]} → {film.queue[i][4]}" for i in worst],
            "p": film.shares[worst, column],
            "dlogodds_all_tokens": felt[worst],
        }
    )


def _first(film: EditTrace) -> np.ndarray:
    """Log-odds of each edit's new object when it was first measured, (n,)."""
    there = np.isfinite(film.edited_log_odds)
    rows = there.argmax(axis=0)
    return np.asarray(film.edited_log_odds[rows, np.arange(film.edited_log_odds.shape[1])])


def _mean(values: np.ndarray) -> np.ndarray:
    """Means over what is finite in each row; NaN where nothing is."""
    there = np.isfinite(values)
    counts = there.sum(axis=1)
    sums = np.where(there, values, 0.0).sum(axis=1)
    return np.asarray(np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0))


def _norm(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt((np.nan_to_num(values) ** 2).sum(axis=1)))
