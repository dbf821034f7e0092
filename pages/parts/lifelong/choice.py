"""Which edits are made one after another, by which method, and what the run is set against: chosen on the left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import streamlit as st

from kis_core import lifelong
from kis_core.editing import METHODS, method
from kis_core.errors import KisError
from kis_core.lifelong import DRAWS, ORDERS, Draw, LifelongRequest
from kis_core.models import catalog
from kis_core.models.layers import editable_layers
from kis_core.results.result import Result
from kis_core.simulator import Simulator
from pages.parts.edit import simulator as benches
from pages.parts.edit.choice import method_help
from pages.parts.edit.search import NAS_HELP
from pages.parts.frame import state
from pages.parts.frame.page import request_for
from pages.parts.frame.text import plain
from pages.parts.frame.views import ResultView
from pages.parts.frame.widgets import select
from pages.parts.jobs import results
from pages.parts.lifelong.runs import Run
from pages.parts.lifelong.view import RunPlan

METHOD_NAMES = {method.name: method.label for method in METHODS}
DRAW_HELP = (
    "Drawn from thousands of facts the demo family knows besides those looked at; of other models, from the facts "
    "looked at. Each gets another object of its relation. “Superposed” goes by √ mean P[e, j]² over the facts looked "
    "at. By hand: add edits on the page Edit a fact."
)
ORDER_HELP = (
    "Least interference: by rising kₑᵀC⁻¹kₑ, which makes Σ P[j, i]² over pairs, i before j, as small as any order can. "
    "See **Order and layer** below."
)
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
SPREAD = "Each layer writes its part of what is still missing (MEMIT, algorithm 1)."
PICKED = "Each edit is made in one of these layers, after a search in all of them."
STEP = 5  # of the slider for the number of edits


def plan(view: ResultView, bench: Simulator) -> RunPlan | None:
    """Draw the choices; the plan they make, or None where they make none, which is then explained."""
    select("editor", "Method", METHOD_NAMES, method_help(METHODS))
    layers = _layers(view)
    if method(state.get("editor")).searches:
        st.toggle("Rescale values (NAS)", help=NAS_HELP, **state.toggle("nas", on="on"))
    draw = _draw(bench)
    edits = max(1, len(draw.picked)) if draw.by == "hand" else _edits(bench)
    select("against", "Set against", AGAINST, "Runs drawn over this one: they differ in that one thing.")
    if draw.by == "hand" and not draw.picked:
        return None
    try:
        request = lifelong.ask(bench, layers, state.get("editor"), edits, draw, **_rescaled(state.get("editor")))
    except KisError as error:
        st.warning(plain(str(error)), icon=":material/block:")
        if view.layer and view.layer not in view.result.editable_layers:
            st.button("Edit layer 0 instead", icon=":material/layers:", on_click=state.choose, args=("layer", 0))
        return None
    return RunPlan(
        _run(bench, request, of_models=state.get("against") == "models"), tuple(_others(view, bench, request))
    )


def _edits(bench: Simulator) -> int:
    most = state.MOST_EDITS if bench.known_facts.apart else max(1, len(bench.facts) // 2)
    fewest = min(STEP, most)
    if not fewest <= state.get("edits") <= most:
        state.settle("edits", max(fewest, min(state.get("edits"), most)))
    step = STEP if most > STEP else 1
    return int(st.slider("Number of edits", fewest, max(most, STEP + 1), step=step, **state.widget("edits")))


def _layers(view: ResultView) -> tuple[int, ...]:
    last = max(editable_layers(view.result.provenance["layers_in_model"]), default=-1)
    kind = method(state.get("editor"))
    if not kind.takes_layers or last <= view.layer:
        return (view.layer,)
    through = state.get("through")
    if through is None or not view.layer <= through <= last:
        state.settle("through", None)
    st.selectbox(
        "Picked from" if kind.picks else "Spread over",
        [None, *range(view.layer + 1, last + 1)],
        format_func=lambda end: f"layer {view.layer} alone" if end is None else f"layers {view.layer} to {end}",
        help=f"{PICKED if kind.picks else SPREAD} Only in the first one do keys never move, so there the forecast of "
        "shifts is exact.",
        **state.widget("through"),
    )
    end = state.get("through")
    return tuple(range(view.layer, (view.layer if end is None else end) + 1))


def _draw(bench: Simulator) -> Draw:
    select("draw", "Which edits", DRAWS, DRAW_HELP)
    by = state.get("draw")
    relations = _relations(bench) if by == "relation" else ()
    picked = _picked(bench) if by == "hand" else ()
    select("arrange", "In which order", ORDERS, ORDER_HELP)
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
        "Relations",
        there,
        format_func=lambda name: name.replace("_", " ") or "none",
        placeholder="all, one by one",
        **state.widget("of", read=tuple, write=list(kept)),
    )
    return kept


def queue_of(result: Result) -> tuple[tuple[int, str], ...]:
    """The edits picked by hand; those picked among other facts are dropped, and those beyond the set are reported."""
    fingerprint = result.facts.fingerprint
    if st.session_state.setdefault("queue-of", fingerprint) != fingerprint:
        st.session_state["queue-of"] = fingerprint
        state.settle("queue", ())
    picked = tuple(edit for edit in state.get("queue") if edit[0] < len(result.facts))
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
        edited = bench.facts[fact]
        words.markdown(f"{number + 1}. {plain(edited.subject)}: {plain(edited.target)} → **{plain(target)}**")
        rest = tuple(other for other in picked if other[0] != fact)
        out.button(
            "",
            icon=":material/close:",
            key=f"unpick-{fact}",
            type="tertiary",
            help="Take it out",
            on_click=state.choose,
            args=("queue", rest),
        )
    return picked


def _run(bench: Simulator, request: LifelongRequest, *, of_models: bool = False) -> Run:
    return Run(f"{bench.result.request.model}: {request.label}" if of_models else request.label, bench, request)


def _others(view: ResultView, bench: Simulator, request: LifelongRequest) -> list[Run]:
    """The runs that differ from the request in the one thing that is chosen."""
    against, draw, layers = state.get("against"), request.draw, request.layers
    others: Iterable[LifelongRequest] = ()
    if against == "methods":
        methods = [method for method in METHODS if method.name != request.method]
        where = {method.name: layers if method.takes_layers else layers[:1] for method in methods}
        others = [_like(bench, request, method=name, layers=layers) for name, layers in where.items()]
    elif against == "layers":
        others = [_like(bench, request, layers=(layer,)) for layer in view.result.editable_layers if (layer,) != layers]
    elif against == "orders":
        draws = [replace(draw, order=order) for order in ORDERS if order != draw.order]
        others = [_like(bench, request, draw=other) for other in draws]
    elif against == "draws" and draw.by != "hand":
        draws = [replace(draw, by=by, relations=()) for by in ("random", "most", "least") if by != draw.by]
        others = [_like(bench, request, draw=other) for other in draws]
    elif against == "seeds" and draw.by != "hand":
        draws = [replace(draw, seed=draw.seed + more) for more in range(1, SEEDS)]
        others = [_like(bench, request, draw=other) for other in draws]
    elif against == "models" and draw.by != "hand":
        return _of_models(view, request)
    return [_run(bench, other) for other in others]


def _like(
    bench: Simulator,
    request: LifelongRequest,
    *,
    layers: tuple[int, ...] = (),
    method: str = "",
    draw: Draw | None = None,
) -> LifelongRequest:
    """The request for the model of the bench, with what is given in place of its own."""
    name = method or request.method
    return lifelong.ask(bench, layers or request.layers, name, request.edits, draw or request.draw, **_rescaled(name))


def _rescaled(name: str) -> dict[str, Any]:
    """Whether a method rescales the values it searches for, as an argument of `lifelong.ask`."""
    return {"nas": True} if state.get("nas") == "on" and method(name).searches else {}


def _of_models(view: ResultView, request: LifelongRequest) -> list[Run]:
    runs = []
    for entry in catalog.demo():
        if entry.name == view.request.model or request.layers[-1] not in entry.editable_layers:
            continue
        other = results.there(request_for(entry.name))
        if other is not None:
            bench = benches.simulator(results.subset_like(view.result, other))
            runs.append(_run(bench, _like(bench, request), of_models=True))
    return runs
