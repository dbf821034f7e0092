"""Lifelong: one edit after another until the model forgets; theory and measurement side by side (eq. 3-5, 11, 15)."""

from __future__ import annotations

from html import escape

import streamlit as st

from kis_core import charts, lifelong
from kis_core.lifelong import EditTrace, frames, summary
from kis_core.models import catalog
from kis_core.results.result import Result
from kis_core.wording import counted, number
from pages.parts.edit import simulator as benches
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, figure
from pages.parts.frame import state
from pages.parts.frame.page import View, frame, panel, request_for, split
from pages.parts.frame.text import plain
from pages.parts.jobs.results import compute, shown
from pages.parts.lifelong import below, runs
from pages.parts.lifelong.choice import RunPlan, plan
from pages.parts.lifelong.python_lines import HELP, python_lines_of
from pages.parts.lifelong.runs import Run

TICK = 0.7  # seconds a step is shown while the run is played
TICKS = 24  # about as many steps a played run has
MOST_NAMED = 8  # edits or facts in one line
SEEDS_LOOKED_FOR = 8  # seeds of which stored runs count for the interval


def main() -> None:
    """The page."""
    view = frame("Lifelong")
    st.subheader("Edit after edit: when does the model forget?", anchor=False)
    result = shown(view)
    st.session_state["pace"] = _pace()
    panel(drawn, run_every=st.session_state["pace"])(view, result)
    if state.get("against") == "models":
        compute([request_for(entry.name) for entry in catalog.demo()], "demo models")


def _pace() -> float | None:
    """How often the page is to be drawn again by itself: while a run is played."""
    return TICK if st.session_state.get("playing") else None


def _keep_pace() -> None:
    """Draw the page anew if it begins or ends to be drawn by itself."""
    if st.session_state.get("pace") != _pace():
        st.rerun()


def drawn(view: View, result: Result) -> None:
    """Choices on the left, the run on the right, and what can be looked at under it."""
    bench = benches.simulator(result)
    left, right = split(1, 2.5, key="split-lifelong")
    with left:
        planned = plan(view, result, bench)
        button = st.container()
    if planned is None:
        with right:
            st.info("Choose edits on the left to see them made one after another.", icon=":material/timeline:")
        st.session_state["playing"] = False
        _keep_pace()
        return
    opened, unasked = "lifelong-opened" in st.session_state, runs.starts_by_itself(planned.main)
    if not opened and unasked and not runs.cancelled(planned.runs):
        runs.start(planned.runs)
    st.session_state["lifelong-opened"] = True
    working = bool(runs.alive(planned.runs))
    films = {run: found for run in planned.runs if (found := runs.film(run)) is not None}
    with button:
        _run_button(planned, films, working)
    with right:
        _told(planned, films, working)
        if planned.main in films:
            step = _step(films[planned.main])
            _figure(view, result, planned, films, step)
            _scrubber(films[planned.main], step, working)
            _since(result, films[planned.main], step)
    if planned.main in films:
        with left:
            _numbers(planned.main, films[planned.main], step)
        below.below(view, result, planned, films, step)
    _keep_pace()


def _run_button(planned: RunPlan, films: dict[Run, EditTrace], working: bool) -> None:
    missing = [run for run in planned.runs if not lifelong.finished(films.get(run), run.asked)]
    st.button(
        _start_label(missing, films) if missing else "Done", type="primary",
        icon=":material/play_circle:" if missing else ":material/check:",
        disabled=working or not missing, on_click=runs.start, args=(missing,), width="stretch", key="run",
        help="Makes the edits on the model in memory, one after another, and measures every few. Its weights are never "
        "written to. What was measured is kept, also when it is cancelled.",
    )  # fmt: skip


def _start_label(missing: list[Run], films: dict[Run, EditTrace]) -> str:
    if any(films[run].edits for run in missing if run in films):
        return "Go on"
    return "Run" if len(missing) < 2 else f"Run {len(missing)}"


def _told(planned: RunPlan, films: dict[Run, EditTrace], working: bool) -> None:
    for why in runs.failures(planned.runs):
        st.error(why, icon=":material/error:")
    if working:
        runs.progress_of(planned.runs)
    elif runs.cancelled(planned.runs):
        missing = [run for run in planned.runs if not lifelong.finished(films.get(run), run.asked)]
        label = _start_label(missing, films)
        kept = "What was measured is kept" if label == "Go on" else "No edit was measured yet"
        how = "goes on from there" if label == "Go on" else "starts anew"
        st.info(f"Cancelled. {kept}; **{label}** on the left {how}.", icon=":material/cancel:")
    elif planned.main not in films:
        st.info("Press **Run** to make these edits, one after another.", icon=":material/play_circle:")


def _step(film: EditTrace) -> int:
    """The step looked at: the one chosen, or the newest."""
    asked = state.get("step")
    return int(film.steps[-1] if asked is None else film.steps[film.at(asked)])


def _figure(view: View, result: Result, planned: RunPlan, films: dict[Run, EditTrace], step: int) -> None:
    named = {run.name: film for run, film in films.items()}
    told = lifelong.frames.holding(named)
    most = max(run.asked.edits for run in planned.runs)
    unrelated = counted(len(films[planned.main].unrelated), "fact")
    several = f", set against {counted(len(films) - 1, 'other run')}" if len(films) > 1 else ""
    figure(
        view,
        result,
        drawing(charts.retention, told, step=step, most=most),
        FigureText(
            title=f"Edit after edit: {planned.main.name}",
            caption=f"{plain(planned.main.name)}{several}. Of {unrelated} not edited, the "
            f"share still answered right (Δo, eq. 11); of the edits so far, the share in force (Δe, eq. 15).",
            help=HELP,
            data=lambda: told,
            code=python_lines_of(planned.runs if len(films) > 1 else [planned.main], result),
            layer=planned.main.asked.layers[0],
        ),
        key="retention",
    )


def _scrubber(film: EditTrace, step: int, working: bool) -> None:
    playing = st.session_state.get("playing", False)
    steps = film.steps.tolist()
    if playing:
        _advance(steps, step, working)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.button(
            "Pause" if playing else "Play", icon=":material/pause:" if playing else ":material/play_arrow:",
            on_click=_play, args=(not playing, steps, step), key="play", disabled=len(steps) < 2,
        )  # fmt: skip
        if len(steps) > 1:
            moves = playing or (working and state.get("step") is None)
            st.select_slider(
                "After so many edits", steps, **state.widget("step", write=step, moment=f"-{step}" if moves else ""),
                help="Go through the run step by step; all of this page but the half-life is as it was then.",
            )  # fmt: skip


def _since(result: Result, film: EditTrace, step: int) -> None:
    """What happened since the step before: the edits made, and whose answers turned."""
    row = film.at(step)
    if not row:
        st.caption("No edit was made yet.")
        return
    first, facts = int(film.steps[row - 1]), result.facts.facts
    lost, back = frames.turned(film, row)
    made = [f"{plain(one[0])} → {plain(one[4])}" for one in film.queue[first:step]]
    lines = [
        (f"**Edits made** since {first}", made),
        ("**Answers lost**", [plain(facts[j].subject) for j in lost]),
        ("**Answers back**", [plain(facts[j].subject) for j in back]),
    ]
    st.markdown("  \n".join(f"{head}: {_named(names)}" for head, names in lines))


def _named(names: list[str]) -> str:
    rest = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + rest if names else "none"


def _play(on: bool, steps: list[int], step: int) -> None:
    st.session_state["playing"] = on
    state.choose("step", steps[0] if on and step >= steps[-1] else step)
    st.session_state["replay"] = True


def _advance(steps: list[int], step: int, working: bool) -> None:
    """One step on, in a run of many several; at the end the play stops."""
    if st.session_state.pop("replay", False):
        return  # shown a moment before it moves
    at = steps.index(step)
    if at + 1 < len(steps):
        state.settle("step", steps[min(len(steps) - 1, at + max(1, len(steps) // TICKS))])
    elif not working:
        st.session_state["playing"] = False
        state.settle("step", None)


def _numbers(run: Run, film: EditTrace, step: int) -> None:
    """The run in a few numbers, as they were at the step."""
    row = film.at(step)
    recall, retention = summary.recall(film)[row], summary.retention(film)[row]
    lives, seeds = _lifetimes(run, film)
    figures = (
        ("half forgotten after", lives.label, lives.certainty),
        ("unrelated right", _percent(recall), f"after {counted(step, 'edit')}"),
        ("edits in force", _percent(retention), f"of {step}"),
        ("took when made", _percent(float(film.took[:step].mean()) if step else float("nan")), f"of {step}"),
        ("‖Wₙ − W₀‖ / ‖W₀‖", number(film.drift[row, 0], ".2f"),
         f"condition number {number(film.condition[row, 0], '.0f')}"),
        ("perplexity", number(film.perplexity[row], ".3g"), f"{number(film.perplexity[0], '.3g')} at first"),
    )  # fmt: skip
    cells = "".join(
        f"<div><div style='font-size:.85rem;opacity:.75'>{escape(label)}</div>"
        f"<div style='font-size:1.45rem;font-weight:600;white-space:nowrap'>{escape(value)}</div>"
        f"<div style='font-size:.85rem;opacity:.75'>{escape(note)}</div></div>"
        for label, value, note in figures
    )
    st.html(
        f"<div style='display:grid;grid-template-columns:repeat(auto-fit,minmax(6.5rem,1fr));gap:.7rem 1rem'>"
        f"{cells}</div>"
    )
    passed = int((~film.made[:step]).sum())
    if passed:
        st.caption(f"{passed} of these edits could not be made and were passed over.")
    if own := int(film.own_key[:step].sum()):
        st.caption(
            f"{own} of these edits took the prompt’s own key: the mean key over contexts had next to nothing of it, as "
            f"when a subject begins its sentence."
        )
    if lives.runs > 1:
        st.caption(f"Half-life over the stored runs of seeds {', '.join(map(str, seeds))}: geometric mean.")


def _lifetimes(run: Run, film: EditTrace) -> tuple[summary.Lifetimes, list[int]]:
    """The half-life, over all seeds of which there is a finished run."""
    seeds, found = [run.asked.draw.seed], [summary.half_life(film)]
    for other in runs.of_other_seeds(run, SEEDS_LOOKED_FOR):
        seen = runs.film(other)
        if seen is not None and (lifelong.finished(seen, other.asked) or summary.half_life(seen).reached):
            seeds.append(other.asked.draw.seed)
            found.append(summary.half_life(seen))
    return summary.over_seeds(found), sorted(seeds)


def _percent(share: float) -> str:
    return number(share, ".0%").replace("%", " %")


main()
