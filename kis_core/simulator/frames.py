"""Data frames of one edit: what charts draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from kis_core.results.pairs import label_of
from kis_core.results.result import Result
from kis_core.simulator.edit_records import Advice, EditOutcome, Forecast
from kis_core.simulator.one_edit import MOST_STRENGTH, Simulator
from kis_core.wording import counted

FORECASTS: Mapping[str, str] = {
    "all": "all tokens",
    "subject": "subject token",
    "propagated": "propagated",
    "shift": "shift at the layer",
}
"""The forecasts by their names in links, and their labels."""


def forecast_values(forecast: Forecast, by: str, strength: float, outcome: EditOutcome | None) -> np.ndarray:
    """The forecast of that name, (m,): a shift along δ for "shift", else a change of log-odds.

    Raises:
        KeyError: no such forecast, or a propagated one without an outcome that holds it.
    """
    if by == "propagated":
        if outcome is None:
            raise KeyError("propagated")
        return outcome.propagated
    linear = {"all": forecast.all_tokens, "subject": forecast.subject_token, "shift": forecast.shift}
    return linear[by] * strength


def spill_frame(
    simulator: Simulator, e: int, forecast: Forecast, by: str, strength: float, outcome: EditOutcome | None
) -> pd.DataFrame:
    """Every other fact, by rising forecast: the most damaged first.

    Args:
        simulator: the simulator.
        e: the edited fact, which is left out.
        forecast: of full strength.
        by: one of `FORECASTS`.
        strength: of the edit.
        outcome: what was measured at that strength, if it was.

    Returns:
        columns `rank`, `fact`, `subject`, `told`, `p` (always P[e, j]), `share` (that of this edit), `forecast`,
        `measured` (NaN before), `kind` ("loses", "gains"; for a shift "against", "along"),
        `flips` (the new answer: measured, or else forecast; "" if it stays), `flips_foretold`, `answers`, `outcome`
        ("flips" or "stays"), `end` (where the cross of a flip goes).
    """
    values = forecast_values(forecast, by, strength, outcome)
    order = np.argsort(values, kind="stable")
    order = order[order != e]
    coming = forecast.flips.by(strength) if forecast.flips else {}
    before, after = simulator.answers_before, outcome.measured.answers if outcome else None
    measured = np.full(len(values), np.nan)
    if outcome is not None:
        measured = outcome.measured.shift if by == "shift" else outcome.measured.log_odds
    flips = [
        (after[j] if outcome is not None and outcome.flipped[j] else "") if after else coming.get(int(j), "")
        for j in order
    ]
    frame = pd.DataFrame(
        {
            "rank": np.arange(len(order)),
            "fact": order,
            "subject": [simulator.facts[j].subject for j in order],
            "told": [label_of(simulator.facts[j]) for j in order],
            "p": forecast.p[order],
            "share": forecast.shares[order],
            "forecast": values[order],
            "measured": measured[order],
            "kind": np.where(values[order] < 0, *(("against", "along") if by == "shift" else ("loses", "gains"))),
            "flips": flips,
            "flips_foretold": [coming.get(int(j), "") for j in order],
            "answers": [_answer_label(before[j], flip) for j, flip in zip(order, flips, strict=True)],
            "outcome": np.where([bool(flip) for flip in flips], "flips", "stays"),
        }
    )
    return frame.assign(end=frame["measured"].fillna(frame["forecast"]))


def _answer_label(before: str, after: str) -> str:
    return f"{before} → {after}" if after else f"{before}, stays"


def span(forecast: Forecast, e: int, by: str, outcome: EditOutcome | None) -> tuple[float, float]:
    """An axis that holds the forecast at every strength, and the measurement."""
    kept = np.arange(len(forecast.p)) != e
    if by == "propagated":
        values = [forecast_values(forecast, by, 1.0, outcome)]
    else:
        values = [forecast_values(forecast, by, MOST_STRENGTH, outcome), forecast_values(forecast, by, 0.0, outcome)]
    if outcome is not None:
        values.append(outcome.measured.shift if by == "shift" else outcome.measured.log_odds)
    every = np.concatenate([value[kept] for value in values] + [np.zeros(1)])
    low, high = float(every.min()), float(every.max())
    room = 0.06 * ((high - low) or 1.0)
    return low - room, high + room


def advice_frame(advice: Sequence[Advice]) -> pd.DataFrame:
    """The layers an edit can reach the answer from, as `charts.advice` draws them; also `paraphrase` and `flips`."""
    rows = [
        {
            "layer": tried.layer,
            "damage": tried.damage,
            "probability": tried.probability,
            "took": "takes" if tried.efficacy else "does not take",
            "paraphrase": float("nan") if tried.paraphrase is None else tried.paraphrase,
            "flips": tried.flips,
            "note": f"{counted(tried.flips, 'other answer')} forecast to change",
        }
        for tried in advice
        if tried.reaches
    ]
    return pd.DataFrame(rows, columns=["layer", "damage", "probability", "took", "paraphrase", "flips", "note"])


def share_frame(result: Result, layer: int, e: int) -> pd.DataFrame:
    """P[e, j] of every other fact, the largest first, with the columns of `spill_frame`; needs no model.

    That is the share of an edit of eq. 2; others have one of their own, known once their value is.
    """
    p = result.p[result.at(layer), e]
    facts = result.facts.facts
    order = np.argsort(-p, kind="stable")
    order = order[(order != e) & np.isfinite(p[order])]
    return pd.DataFrame(
        {
            "rank": np.arange(len(order)),
            "fact": order,
            "subject": [facts[j].subject for j in order],
            "told": [label_of(facts[j]) for j in order],
            "p": p[order],
            "share": p[order],
            "forecast": p[order],
            "measured": np.nan,
            "kind": np.where(p[order] < 0, "against", "along"),
            "flips": "",
            "flips_foretold": "",
            "answers": "",
            "outcome": "stays",
            "end": p[order],
        }
    )
