"""Which edits are made one after another, by which method, and what a run is set against: chosen on the left."""

from __future__ import annotations

from dataclasses import dataclass, replace

import streamlit as st

from kis_core import lifelong
from kis_core.editing import METHODS, method
from kis_core.errors import KisError
from kis_core.lifelong import DRAWS, ORDERS, Draw
from kis_core.models import catalog
from kis_core.models.layers import editable_layers
from kis_core.results.result import Result
from kis_core.simulator import Simulator
from pages.parts.edit import simulator as benches
from pages.parts.edit.choice import method_help
from pages.parts.frame import state
from pages.parts.frame.page import View, request_for
from pages.parts.frame.text import plain
from pages.parts.jobs import results
from pages.parts.lifelong.runs import Run

METHOD_NAMES = {method.name: method.label for method in METHODS}
AGAINST = {
    "one": "nothing",
    "methods": "all methods",
    "layers": "all layers",
    "models": "the other models",
    "draws": "most and least superposed first",
    "orders": "other orders of the same edits",
    "seeds": "three seeds",
}
SEEDS = 3
STEP = 5  # of the slider for the number of edits


@dataclass(frozen=True, eq=False)
class RunPlan:
    """What is to be shown.

    Attributes:
        main: the run chosen.
        others: runs it is set against.
    """

    main: Run
    others: tuple[Run, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        """All of them, the chosen one first."""
        return (self.main, *self.others)


def plan(view: View, result: Result, bench: Simulator) -> RunPlan | None:
    """Draw the choices; the plan they make, or None where they make none (it is said why)."""
    st.selectbox(
        "Method",
        list(METHOD_NAMES),
        format_func=METHOD_NAMES.__getitem__,
        help=method_help(METHODS),
        **state.widget("editor"),
    )
    layers = _layers(view, result)
    draw = _draw(bench)
    most = state.MOST_EDITS if bench.known_facts.apart else max(1, len(bench.facts) // 2)
    if draw.by == "hand":
        edits = max(1, len(draw.picked))
    else:
        fewest = min(STEP, most)
        if not fewest <= state.get("edits") <= most:
            state.settle("edits", max(fewest, min(state.get("edits"), most)))
        edits = int(
            st.slider(
                "Number of edits", fewest, max(most, STEP + 1), step=STEP if most > STEP else 1,
                **state.widget("edits"),
            )
        )  # fmt: skip
    st.selectbox(
        "Set against", list(AGAINST), format_func=AGAINST.__getitem__,
        help="Runs drawn over this one: they differ in that one thing.", **state.widget("against"),
    )  # fmt: skip
    if draw.by == "hand" and not draw.picked:
        return None
    try:
        main = _run(bench, layers, state.get("editor"), edits, draw, models=state.get("against") == "models")
    except KisError as error:
        st.warning(plain(str(error)), icon=":material/block:")
        if view.layer and view.layer not in result.editable_layers:
            st.button("Edit layer 0 instead", icon=":material/layers:", on_click=state.choose, args=("layer", 0))
        return None
    return RunPlan(main, tuple(_others(view, result, bench, layers, edits, draw)))


def _layers(view: View, result: Result) -> tuple[int, ...]:
    last = max(editable_layers(result.provenance["layers_in_model"]), default=-1)
    if not method(state.get("editor")).spreads or last <= view.layer:
        return (view.layer,)
    through = state.get("through")
    if through is None or not view.layer <= through <= last:
        state.settle("through", None)
    ends = [None, *range(view.layer + 1, last + 1)]
    st.selectbox(
        "Spread over", ends,
        format_func=lambda end: f"layer {view.layer} alone" if end is None else f"layers {view.layer} to {end}",
        help="Each layer writes its part of what is still missing (MEMIT, algorithm 1). Only in the first one do keys "
        "never move, so there the forecast of shifts is exact.",
        **state.widget("through"),
    )  # fmt: skip
    end = state.get("through")
    return tuple(range(view.layer, (view.layer if end is None else end) + 1))


def _draw(bench: Simulator) -> Draw:
    st.selectbox(
        "Which edits", list(DRAWS), format_func=lambda name: DRAWS[name],
        help="Drawn from thousands of facts the demo family knows besides those looked at; of other models, from the "
        "facts looked at. Each gets another object of its relation. “Superposed” goes by √ mean P[e, j]² over the "
        "facts looked at. By hand: add edits on the page Edit a fact.",
        **state.widget("draw"),
    )  # fmt: skip
    by = state.get("draw")
    relations: tuple[str, ...] = ()
    picked: tuple[tuple[int, str], ...] = ()
    if by == "relation":
        relations = _relations(bench)
    if by == "hand":
        picked = _picked(bench)
    st.selectbox(
        "In which order", list(ORDERS), format_func=lambda name: ORDERS[name],
        help="Least interference: by rising kₑᵀC⁻¹kₑ, which makes Σ P[j, i]² over pairs, i before j, as small as any "
        "order can. See **Order and layer** below.",
        **state.widget("arrange"),
    )  # fmt: skip
    if by != "hand":
        st.number_input("Seed", 0, 9999, help="Of the draw and of the new objects.", **state.widget("seed"))
    return Draw(by, state.get("seed"), relations, picked, state.get("arrange"))


def _relations(bench: Simulator) -> tuple[str, ...]:
    there = sorted({fact.relation for fact in bench.known_facts.pool})
    kept = tuple(name for name in state.get("of") if name in there)
    if unknown := [name for name in state.get("of") if name not in there]:
        st.info(f"There is no relation {plain(unknown[0])} here.", icon=":material/link_off:")
        state.settle("of", kept)
    st.multiselect(
        "Relations", there, format_func=lambda name: name.replace("_", " ") or "none", placeholder="all, one by one",
        **state.widget("of", read=tuple, write=list(kept)),
    )  # fmt: skip
    return kept


def queue_of(result: Result) -> tuple[tuple[int, str], ...]:
    """The edits picked by hand; those picked among other facts are forgotten, and those beyond the set told."""
    print_ = result.facts.fingerprint
    if st.session_state.setdefault("queue-of", print_) != print_:
        st.session_state["queue-of"] = print_
        state.settle("queue", ())
    picked = tuple(one for one in state.get("queue") if one[0] < len(result.facts))
    if beyond := [fact for fact, _ in state.get("queue") if fact >= len(result.facts)]:
        st.info(f"There is no fact {beyond[0]} among these {len(result.facts)}.", icon=":material/link_off:")
        state.settle("queue", picked)
    return picked


def _picked(bench: Simulator) -> tuple[tuple[int, str], ...]:
    picked = queue_of(bench.result)
    if not picked:
        st.info("No edit picked yet.", icon=":material/playlist_add:")
        st.page_link(
            "pages/edit.py", label="Pick some on Edit a fact", icon=":material/edit:", query_params=state.link()
        )
        return ()
    for number, (fact, target) in enumerate(picked):
        words, out = st.columns([6, 1], vertical_alignment="center")
        one = bench.facts[fact]
        words.markdown(f"{number + 1}. {plain(one.subject)}: {plain(one.target)} → **{plain(target)}**")
        rest = tuple(other for other in picked if other[0] != fact)
        out.button(
            "", icon=":material/close:", key=f"unpick-{fact}", type="tertiary", help="Take it out",
            on_click=state.choose, args=("queue", rest),
        )  # fmt: skip
    return picked


def _run(
    bench: Simulator, layers: tuple[int, ...], editor: str, edits: int, draw: Draw, *, models: bool = False
) -> Run:
    asked = lifelong.ask(bench, layers, editor, edits, draw)
    return Run(f"{bench.result.request.model}: {asked.label}" if models else asked.label, bench, asked)


def _others(view: View, result: Result, bench: Simulator, layers: tuple[int, ...], edits: int, draw: Draw) -> list[Run]:
    against, editor = state.get("against"), state.get("editor")
    if against == "methods":
        of = {one.name: layers if one.spreads else layers[:1] for one in METHODS if one.name != editor}
        return [_run(bench, where, name, edits, draw) for name, where in of.items()]
    if against == "layers":
        return [_run(bench, (one,), editor, edits, draw) for one in result.editable_layers if (one,) != layers]
    if against == "draws" and draw.by != "hand":
        kinds = [by for by in ("random", "most", "least") if by != draw.by]
        return [_run(bench, layers, editor, edits, replace(draw, by=by, relations=())) for by in kinds]
    if against == "orders":
        return [_run(bench, layers, editor, edits, replace(draw, order=o)) for o in ORDERS if o != draw.order]
    if against == "seeds" and draw.by != "hand":
        return [_run(bench, layers, editor, edits, replace(draw, seed=draw.seed + k)) for k in range(1, SEEDS)]
    if against == "models" and draw.by != "hand":
        return _of_models(view, result, layers, editor, edits, draw)
    return []


def _of_models(view: View, result: Result, layers: tuple[int, ...], editor: str, edits: int, draw: Draw) -> list[Run]:
    found = []
    for entry in catalog.demo():
        if entry.name == view.request.model or layers[-1] not in entry.editable_layers:
            continue
        other = results.there(request_for(entry.name))
        if other is not None:
            bench = benches.simulator(results.subset_like(result, other))
            found.append(_run(bench, layers, editor, edits, draw, models=True))
    return found
