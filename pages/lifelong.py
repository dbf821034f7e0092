"""Lifelong: one edit after another until the model forgets; theory and measurement side by side (eq. 3-5, 11, 15)."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import streamlit as st

from kis_core import charts, lifelong
from kis_core.lifelong import EditTrace, frames, summary
from kis_core.models import catalog
from kis_core.read_only import read_only
from kis_core.wording import counted, number
from pages.parts.edit import simulator as benches
from pages.parts.figures.drawing import drawing
from pages.parts.figures.figure import FigureText, figure
from pages.parts.frame import state, talk
from pages.parts.frame.glossary import explain
from pages.parts.frame.page import frame, panel, request_for, split
from pages.parts.frame.public import not_offered
from pages.parts.frame.text import plain
from pages.parts.frame.views import ResultView
from pages.parts.jobs.estimate import estimate_runs
from pages.parts.jobs.missing import compute
from pages.parts.jobs.results import installs, shown
from pages.parts.lifelong import below, runs
from pages.parts.lifelong.budget import budget_figure, forecast_button, progress_of_budget
from pages.parts.lifelong.choice import plan
from pages.parts.lifelong.runs import Run
from pages.parts.lifelong.view import HELP, RunPlan, RunView

TICK = 0.7  # seconds a step is shown while the run is played
TICKS = 24  # about as many steps a played run has
MOST_NAMED = 8  # edits or facts in one line
SEEDS_LOOKED_FOR = 8  # seeds of which stored runs count for the interval


def main() -> None:
    """The page."""
    view = frame("Lifelong")
    st.subheader("Edit after edit: when does the model forget?", anchor=False)
    seen = shown(view)
    st.session_state["pace"] = _pace()
    panel(drawn, run_every=st.session_state["pace"])(seen)
    if state.get("against") == "models":
        compute([request_for(entry.name) for entry in catalog.demo()], "demo models")


def _pace() -> float | None:
    """How often the page is to be drawn again by itself: while a run is played."""
    return TICK if st.session_state.get("playing") else None


def _keep_pace() -> None:
    """Draw the page anew if it begins or ends to be drawn by itself."""
    if st.session_state.get("pace") != _pace():
        st.rerun()


def drawn(seen: ResultView) -> None:
    """Choices on the left, the run on the right, and what can be looked at under it."""
    left, right = split(1, 2.5, key="split-lifelong")
    with left:
        planned = plan(seen, benches.simulator(seen.result))
        button = st.container()
    if planned is None:
        with right:
            st.info("Choose edits on the left to see them made one after another.", icon=":material/timeline:")
        st.session_state["playing"] = False
        _keep_pace()
        return
    working = bool(runs.alive(planned.runs))
    traces = {run: trace for run in planned.runs if (trace := runs.trace_of(run)) is not None}
    with button:
        forecast_button(planned)
        _run_button(planned, traces, working)
    main = traces.get(planned.main)
    with right:
        progress_of_budget(planned)
        _progress(planned, traces, working)
        if main is None:
            budget_figure(seen, planned, traces)
            _keep_pace()
            return
        view = RunView(seen.request, seen.layer, seen.known_only, seen.result, planned, traces, _step(main))
        _figure(view)
        _scrubber(view, working)
        _since(view)
    with left:
        _numbers(view)
    below.below(view)
    _keep_pace()


def _run_button(planned: RunPlan, traces: Mapping[Run, EditTrace], working: bool) -> None:
    missing = planned.unfinished(traces)
    if read_only():
        return
    st.button(
        _start_label(missing, traces) if missing else "Done",
        type="primary",
        icon=":material/play_circle:" if missing else ":material/check:",
        disabled=bool(working or not missing or installs(planned.model)),
        on_click=runs.start,
        args=(missing,),
        width="stretch",
        key="run",
        help="Makes the edits on the model in memory, one after another, and measures every few. Its weights are never "
        "written to. What was measured is kept, also when the run is cancelled.",
    )
    offered = [] if working or installs(planned.model) else missing
    if words := estimate_runs([(run.bench.result, run.request) for run in offered]):
        st.caption(words)


def _start_label(missing: list[Run], traces: Mapping[Run, EditTrace]) -> str:
    if any(traces[run].edits for run in missing if run in traces):
        return "Resume"
    return "Run" if len(missing) < 2 else f"Run {len(missing)}"


def _progress(planned: RunPlan, traces: Mapping[Run, EditTrace], working: bool) -> None:
    """How far the runs are, or what keeps them from going on."""
    for why in runs.failures(planned.runs):
        st.error(why, icon=":material/error:")
    if working:
        runs.progress_of_runs(planned.runs)
    elif runs.cancelled(planned.runs):
        label = _start_label(planned.unfinished(traces), traces)
        resumes = label == "Resume"
        kept = "What was measured is kept" if resumes else "No edit was measured yet"
        begins = "continues from there" if resumes else "starts from the beginning"
        st.info(f"Cancelled. {kept}; **{label}** on the left {begins}.", icon=":material/cancel:")
    elif planned.unfinished(traces) and not_offered("This run of edits is not stored to its end, and making it"):
        return
    elif planned.main not in traces and (package := installs(planned.model)):
        st.info(
            f"These edits are not made yet, and the model is not on this machine.{package}", icon=":material/cloud_off:"
        )
    elif planned.main not in traces:
        st.info("Press **Run** to make these edits, one after another.", icon=":material/play_circle:")


def _step(trace: EditTrace) -> int:
    """The step looked at: the one chosen, or the newest."""
    chosen = state.get("step")
    return int(trace.steps[-1] if chosen is None else trace.steps[trace.at(chosen)])


def _figure(view: RunView) -> None:
    frame = frames.holding({run.name: trace for run, trace in view.traces.items()})
    most = max(run.request.edits for run in view.plan.runs)
    unrelated, others = counted(len(view.trace.unrelated), "fact"), len(view.traces) - 1
    several = f", set against {counted(others, 'other run')}" if others else ""
    figure(
        view,
        drawing(charts.retention, frame, step=view.step, most=most),
        FigureText(
            title=f"Edit after edit: {view.run.name}",
            caption=f"{plain(view.run.name)}{several}. Of {unrelated} not edited, the share still answered right (Δo, "
            f"eq. 11); of the edits so far, the share in force (Δe, eq. 15).",
            help=f"{HELP}\n\n{explain('edit trace')}",
            data=lambda: frame,
            code=view.python_lines_of(view.plan.runs if others else [view.run]),
        ),
        key="retention",
    )


def _scrubber(view: RunView, working: bool) -> None:
    playing, step = st.session_state.get("playing", False), view.step
    steps = view.trace.steps.tolist()
    if playing:
        _advance(steps, step, working)
    with st.container(horizontal=True, vertical_alignment="bottom", key="act"):
        st.button(
            "Pause" if playing else "Play",
            icon=":material/pause:" if playing else ":material/play_arrow:",
            on_click=_play,
            args=(not playing, steps, step),
            key="play",
            shortcut=talk.key("Space"),
            disabled=len(steps) < 2,
        )
        if len(steps) > 1:
            moves = playing or (working and state.get("step") is None)
            st.select_slider(
                "After so many edits",
                steps,
                **state.widget("step", write=step, moment=f"-{step}" if moves else ""),
                help="Go through the run step by step; all of this page but the half-life is as it was then.",
            )


def _since(view: RunView) -> None:
    """What happened since the step before: the edits made, and whose answers changed between right and wrong."""
    row, trace, facts = view.row, view.trace, view.result.facts.facts
    if not row:
        st.caption("No edit was made yet.")
        return
    first = int(trace.steps[row - 1])
    lost, back = frames.turned(trace, row)
    edits = [f"{plain(edit[0])} → {plain(edit[4])}" for edit in trace.queue[first : view.step]]
    lines = [
        (f"**Edits made** since {first}", edits),
        ("**Answers lost**", [plain(facts[j].subject) for j in lost]),
        ("**Answers regained**", [plain(facts[j].subject) for j in back]),
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
    """One step on, or several in a run of many; at the end the play stops."""
    if st.session_state.pop("replay", False):
        return  # shown a moment before it moves
    at = steps.index(step)
    if at + 1 < len(steps):
        state.settle("step", steps[min(len(steps) - 1, at + max(1, len(steps) // TICKS))])
    elif not working:
        st.session_state["playing"] = False
        state.settle("step", None)


def _numbers(view: RunView) -> None:
    """The run in a few numbers, as they were at the step."""
    row, step, trace = view.row, view.step, view.trace
    lives, seeds = _lifetimes(view.run, trace)
    took = float(trace.took[:step].mean()) if step else float("nan")
    condition, at_first = number(trace.condition[row, 0], ".0f"), number(trace.perplexity[0], ".3g")
    figures = (
        ("half-life", f"{'> ' if lives.unreached else ''}{number(lives.middle, '.0f')} edits", _interval(lives)),
        ("unrelated right", _percent(summary.recall(trace)[row]), f"after {counted(step, 'edit')}"),
        ("edits in force", _percent(summary.retention(trace)[row]), f"of {step}"),
        ("took when made", _percent(took), f"of {step}"),
        ("‖Wₙ − W₀‖ / ‖W₀‖", number(trace.drift[row, 0], ".2f"), f"condition number {condition}"),
        ("perplexity", number(trace.perplexity[row], ".3g"), f"{at_first} at first"),
    )
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
    st.caption("What these numbers are", help=explain("half-life", "condition number", "edits in force", "perplexity"))
    if passed := int((~trace.made[:step]).sum()):
        st.caption(f"{passed} of these edits could not be made and were left out.")
    if own := int(trace.own_key[:step].sum()):
        st.caption(
            f"{own} of these edits took the prompt’s own key: the mean key over contexts had next to nothing of it, as "
            f"when a subject begins its sentence."
        )
    if lives.runs > 1:
        st.caption(f"Half-life over the stored runs of seeds {', '.join(map(str, seeds))}: geometric mean.")


def _interval(lives: summary.Lifetimes) -> str:
    if lives.unreached:
        return "not reached" if lives.runs == 1 else f"not reached in {lives.unreached} of {lives.runs} runs"
    return f"{lives.low:.0f}–{lives.high:.0f} (95 %, {lives.runs} seeds)" if lives.runs > 1 else "1 seed"


def _lifetimes(run: Run, trace: EditTrace) -> tuple[summary.Lifetimes, list[int]]:
    """The half-life, over all seeds of which there is a finished run."""
    seeds, lives = [run.request.draw.seed], [summary.half_life(trace)]
    for other in runs.of_other_seeds(run, SEEDS_LOOKED_FOR):
        known = runs.trace_of(other)
        if known is not None and (lifelong.finished(known, other.request) or summary.half_life(known).reached):
            seeds.append(other.request.draw.seed)
            lives.append(summary.half_life(known))
    return summary.over_seeds(lives), sorted(seeds)


def _percent(share: float) -> str:
    return number(share, ".0%").replace("%", " %")


main()
