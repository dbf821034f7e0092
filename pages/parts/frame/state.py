"""What is being looked at: chosen once, kept across pages in the session, and written into the address bar.

Streamlit forgets a widget's value, and a bound query parameter, when the page changes. So the choices live in one
dictionary of the session; widgets show it and write to it, and the address bar follows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NoReturn

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from kis_core.analysis import unfinished
from kis_core.corpora import BUILTIN_NAME as BUILTIN_CORPUS
from kis_core.corpora import WIKIPEDIA_NAME
from kis_core.editing import METHODS, RANK_ONE
from kis_core.errors import KisError
from kis_core.facts import BUILTIN_NAME, BUILTIN_SETS, saved
from kis_core.lifelong import DRAWS
from kis_core.lifelong import ORDERS as EDIT_ORDERS
from kis_core.models import catalog
from kis_core.models.describe import described
from kis_core.request import Request, default_c_settings
from kis_core.results import archive, network
from kis_core.results.tags import TAGS
from kis_core.simulator import FORECASTS, MOST_STRENGTH
from kis_core.store.store import Store, StoreError, default_root
from kis_core.superposition.ordering import ORDERS
from pages.parts.frame import link as links
from pages.parts.frame.choices import (
    Behind,
    Choice,
    Edits,
    Number,
    OneOf,
    Range,
    SettingsChoice,
    Several,
    Tuple,
    Whole,
    Words,
)

LIMITS = ("auto", "0.1", "0.2", "0.3", "0.5", "1")
HOW = ("clamp", "everywhere", "kl", "learning_rate", "mean_key", "nas", "prefixes", "seed", "steps", "weight_decay")
LOOKS = ("pair", "scatter", "table", "layers", "reach", "history", "search")  # what stands under an edit
STORED_SECONDS = 20  # between two looks at what is stored
AGAINST = ("one", "methods", "layers", "models", "draws", "orders", "seeds")  # what runs are set against each other by
CHRONICLE = ("theory", "budget", "ages", "weights", "damage", "facts", "choosing", "study")  # what stands under a run
MOST_EDITS = 500  # in one run on a page
MOST_PICKED = 50  # edits picked by hand
MOST_PAIRS = 500
CHAPTERS = 8  # of the story
MOST_WORDS = 80


def models() -> dict[str, catalog.ModelEntry]:
    """The models that can be looked at, by name: those on this machine, and those with stored results."""
    here = {entry.name: entry for entry in catalog.available()}
    return here | {name: entry for name, entry in _stored_models(str(default_root())).items() if name not in here}


@st.cache_data(show_spinner=False, ttl=STORED_SECONDS)
def _stored_models(root: str) -> dict[str, catalog.ModelEntry]:
    """Models with results in the store, which may come from another machine, or with unfinished requests."""
    entries: dict[str, catalog.ModelEntry] = {}
    with suppress(StoreError):  # the page says itself that the cache folder cannot be used
        store = Store(root)
        for result in archive.computed(store):
            name, sizes = (
                result.request.model,
                (result.parameters, result.layers_in_model, result.width, result.mlp_width),
            )
            entries[name] = catalog.find(name) or catalog.ModelEntry(name, result.family, name, *sizes)
        for begun in unfinished.unfinished(store):
            with suppress(KisError):
                request = begun.request
                entries.setdefault(request.model, described(request.model, revision=request.revision, download=False))
    return entries


def available_c_settings(model: str, facts: str) -> list[dict[str, Any]]:
    """The ways in which C of a model was taken: first for a fact set, with the most text first; else the usual one."""
    known = _known_settings(str(default_root()))
    settings = [how for name, source, how in known if name == model and source == facts]
    settings += [how for name, _, how in known if name == model and how not in settings]  # C is there for any facts
    return settings or [Request(model, **default_c_settings(model)).c_settings]


@st.cache_data(show_spinner=False, ttl=STORED_SECONDS)
def _known_settings(root: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Model, facts and settings of C of everything stored, most tokens and layers first, and of what is unfinished."""
    known: list[tuple[str, str, dict[str, Any]]] = []
    with suppress(StoreError):
        store = Store(root)
        computed = sorted(archive.computed(store), key=lambda result: (-result.tokens, -len(result.reports)))
        requests = [result.request for result in computed]
        requests += [begun.request for begun in unfinished.unfinished(store)]
        for request in requests:
            if (settings := (request.model, request.facts, request.c_settings)) not in known:
                known.append(settings)
    return known


def texts() -> set[str]:
    """The texts that C may be taken over when a link asks for it: those of the program, and those met before."""
    return {BUILTIN_CORPUS, WIKIPEDIA_NAME, *(how["corpus"] for _, _, how in _known_settings(str(default_root())))}


def look_again() -> None:
    """Drop what is remembered of the store: something was just submitted, stored or deleted."""
    for cache in (_stored_models, _known_settings):
        cache.clear()


def fact_sets() -> tuple[str, ...]:
    """The fact sets that can be looked at: the built-in ones and the users' own."""
    return (*BUILTIN_SETS, *saved.names(default_root()))


def _among(*names: str) -> OneOf:
    return OneOf(names[0], lambda: names)


CHOICES: dict[str, Choice] = {
    "model": OneOf(catalog.DEFAULT, models),
    "layer": Whole(0),
    "facts": OneOf(BUILTIN_NAME, fact_sets),
    "behind": Behind(texts),  # C: which text, how much of it, in which precision
    "keep": _among("all", "known"),  # facts: all, or those the model answers
    "pair": Tuple(2, "a pair of facts is written like 0-1"),
    "order": _among(*ORDERS),
    "limit": _among(*LIMITS),
    "diagonal": _among("shown", "hidden"),
    "window": Tuple(4, "a window is written like 0-64-0-64: rows from and to, columns from and to"),
    "axis": _among("linear", "log"),  # of a density
    "tail": Range(),  # of P
    "angle": Range(),
    "space": _among("whitening", "activation"),  # of a clicked angle
    "k": Whole(100, 1, MOST_PAIRS),
    "directions": _among("both", "merged"),
    "relations": Several(),  # whatever the fact set calls them
    "tags": Several(TAGS),
    "find": Words(most=MOST_WORDS),
    "list": _among("strongest", "stay", "paper"),
    "stay": _among("layers", "models"),
    "artefacts": _among("with", "without"),
    "least": Number(None, network.LEAST, network.MOST),  # |P| from which links are drawn
    "lights": _among("on", "off"),  # of an edit in the network
    "other": OneOf(None, models),
    "otherlayer": Whole(None),
    "target": Words(most=MOST_WORDS),  # new object of an edit
    "method": _among(*(method.name for method in RANK_ONE)),
    "strength": Number(1.0, 0.0, MOST_STRENGTH),
    "how": SettingsChoice(HOW),
    "by": _among(*FORECASTS),
    "performed": _among("no", "yes"),
    "look": _among(*LOOKS),
    "editor": _among(*(method.name for method in METHODS)),  # of a sequence of edits
    "through": Whole(None),  # last layer that an edit is spread over, or its layer picked from
    "nas": _among("off", "on"),  # values of a sequence are rescaled
    "edits": Whole(100, 1, MOST_EDITS),
    "draw": _among(*DRAWS),
    "arrange": _among(*EDIT_ORDERS),
    "seed": Whole(0),
    "of": Several(),  # relations to edit
    "queue": Edits(MOST_PICKED, MOST_WORDS),  # picked by hand
    "against": _among(*AGAINST),
    "step": Whole(None),
    "chronicle": _among(*CHRONICLE),
    "shade": _among("measured", "renewed", "all", "subject"),  # of the heatmap of damage
    "watched": Whole(None),  # fact whose history is shown
    "chapter": Whole(1, 1, CHAPTERS),  # of the story
    "talk": _among("off", "on"),  # shown to an audience
}
OF_AN_EDIT = ("target-of", "performed-edit", "queue-of")  # what the session remembers of an edit, besides the choices


def open_link() -> list[str]:
    """Choose what the link asks for: at the start of a session, on a visit, and when the browser went back or forward.

    Any other query string that is not the one written last is out of date: it was on its way when a choice was made.

    Returns:
        which of its choices cannot be had, a sentence each, until something else is chosen.
    """
    session, query = st.session_state, st.query_params.to_dict()
    opened = session.pop("visited", None) is not None
    if "chosen" not in session or opened or (_went_back() and query != session.get("written")):
        for note in OF_AN_EDIT:
            session.pop(note, None)
        forget(*session.get("held", ()))
        session["chosen"], session["missing"] = links.read(CHOICES, models)
        if "facts" not in query and (facts := _facts_stored_of(get("model"))):
            settle("facts", facts)
        session["written"] = query
    return list(session["missing"])


def _went_back() -> bool:
    """Whether this run came of the browser's Back or Forward; Streamlit tells a script so in its context alone."""
    context = get_script_run_ctx()
    return context is not None and context.is_history_navigation


def get(name: str) -> Any:
    """A choice, by its name in `CHOICES`."""
    return st.session_state["chosen"][name]


def choose(name: str, value: Any) -> None:
    """Make a choice, for all pages and for the link; that the link asked for something missing is then dropped.

    The link is written by `frame` and `panel` once all that a click chooses is chosen: each writing is one step back.
    """
    st.session_state["missing"] = []
    if name == "model" and value != get("model"):
        settle("behind", None)  # that was chosen for the other model
        if value and (facts := _facts_stored_of(value)):
            settle("facts", facts)
            settle("pair", None)
    settle(name, value)


def _facts_stored_of(model: str) -> str | None:
    """The built-in set to look at a model on, if it is stored on another one than the chosen; None to keep the chosen.

    Among the demo models, which are computed in seconds on any facts, the facts stay.
    """
    facts = get("facts")
    sets = [source for name, source, _ in _known_settings(str(default_root())) if name == model]
    if facts not in BUILTIN_SETS or facts in sets or (catalog.is_demo(model) and catalog.is_demo(get("model"))):
        return None
    return next((name for name in BUILTIN_SETS if name in sets), None)


def show(model: str, c_settings: dict[str, Any]) -> None:
    """Choose a model and how its C is taken; for the demo family the link does not say so where it is the usual way."""
    choose("model", model)
    choose("behind", c_settings if default_c_settings(model) or c_settings != Request(model).c_settings else None)


def settle(name: str, value: Any) -> None:
    """Replace a choice that cannot be had by one that can; nobody chose it."""
    st.session_state["chosen"][name] = value


def clicked(chart: str, name: str) -> list[dict[str, Any]]:
    """What a selection of a chart says was clicked; remembered, so that the chart can be made to forget it."""
    points = list(st.session_state[chart]["selection"].get(name) or [])
    if points:
        st.session_state.setdefault("held", set()).add(chart.rsplit("#", 1)[0])
    return points


def fresh(chart: str) -> str:
    """The key of a chart; another one once `forget` was called, so that the chart is made anew."""
    return f"{chart}#{st.session_state.get('generations', {}).get(chart, 0)}"


def forget(*charts: str) -> None:
    """Let charts forget what was clicked on them: otherwise a second click on the same thing would go unnoticed.

    Making a chart anew takes the browser a moment, so only those that hold a click are.
    """
    held, generations = st.session_state.get("held", set()), st.session_state.setdefault("generations", {})
    for chart in held & set(charts):
        generations[chart] = generations.get(chart, 0) + 1
        held.discard(chart)


def widget(
    name: str, read: Callable[[Any], Any] = lambda value: value, write: Any = None, moment: str = ""
) -> dict[str, Any]:
    """Arguments that make a widget show a choice and change it.

    Args:
        name: of the choice.
        read: the choice from the widget's value.
        write: the widget's value for the present choice, where the two differ.
        moment: sets this widget apart from the one drawn before. Where the program moves a widget by itself, what the
            browser still says of the value before would otherwise be taken for the user's choice.
    """
    key = f"choose-{name}{moment}"
    st.session_state[key] = get(name) if write is None else write

    def changed() -> None:
        if not moment or st.session_state[key] != write:  # else it echoes what the program wrote
            choose(name, read(st.session_state[key]))

    return {"key": key, "on_change": changed}


def toggle(name: str, *, on: str) -> dict[str, Any]:
    """Arguments that make a toggle show a choice between two names and change it; `on` is what "on" stands for."""
    kind = CHOICES[name]
    off = next(option for option in kind.options() if option != on) if isinstance(kind, OneOf) else None
    return widget(name, lambda value: on if value else off, write=get(name) == on)


def link() -> dict[str, str]:
    """What is chosen as a link says it, where it is not the default."""
    chosen = st.session_state["chosen"].items()
    return {name: CHOICES[name].write(value) for name, value in chosen if value != CHOICES[name].default}


def write_link() -> None:
    """Let the address bar say what is chosen; while a run of edits is played, its steps are no choices of anyone."""
    if st.session_state.get("playing"):
        return
    st.session_state["written"] = now = link()
    if st.query_params.to_dict() != now:
        st.query_params.from_dict(now)


def go(page: str) -> NoReturn:
    """Open another page on what is chosen."""
    st.switch_page(page, query_params=link())


def visit(page: str, query: Mapping[str, str]) -> NoReturn:
    """Open another page, or this one, on what a link chooses."""
    st.session_state["visited"] = page
    st.switch_page(page, query_params=dict(query))


def picked(facts: int) -> tuple[int, int] | None:
    """The picked pair, if it is one of this many facts."""
    pair: tuple[int, int] | None = get("pair")
    return pair if pair and max(pair) < facts else None
