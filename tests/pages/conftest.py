"""Pages run against one cache, filled once: a demo model, a model of a single layer, and fact sets of every kind."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import altair as alt
import pytest
import streamlit as st
import torch
from altair.utils import schemapi
from streamlit.components.v2.component_manager import BidiComponentManager
from streamlit.runtime.scriptrunner.script_cache import ScriptCache
from streamlit.testing.v1 import AppTest, app_test, local_script_runner
from transformers import AutoModelForCausalLM, AutoTokenizer

from kis_core import facts
from kis_core.analysis import pipeline
from kis_core.analysis.pipeline import Request, Result
from kis_core.covariance import speed
from kis_core.facts import Fact, FactSet, saved
from kis_core.models import catalog
from kis_core.models.files import ModelFiles
from kis_core.models.holder import LoadedModels
from kis_core.request import DEFAULT_TOKENS
from kis_core.simulator import Simulator
from kis_core.store.store import Store
from pages.parts.edit import simulator
from pages.parts.figures import drawing
from pages.parts.frame import memory
from pages.parts.jobs import results
from tests import tiny
from tests.conftest import one_for_all_processes
from tests.pages.small_hub import SPEED

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("app.py", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "pages").glob("*.py")))
MODEL = "demo-gpt2-32"
LAYERS = 4  # of it
ONE_LAYER = "tiny-one-layer"
NOT_COMPUTED = "demo-gpt2-64"
LOOKALIKES = "builtin-lookalikes"
FEWER_TOKENS = (1_000, 3_000)  # amounts of text, besides the default, that the Convergence page finds computed
ANSWERED, MIXED = 20, 30  # of the mixed set's facts the demo model answers the first ones
LARGE = 140  # facts: more than are drawn cell by cell
SECONDS = 60

SCRIPT, PICTURE, FORMULA, COLOURED = "<script>alert(1)</script>", "![x](http://e)", "=cmd()", ":red[a] $x$"
HOSTILE = (
    Fact(SCRIPT, "{} is", FORMULA, PICTURE),
    Fact(PICTURE, "{} **is**", "<b>", FORMULA),
    Fact(FORMULA, "[{}](javascript:x) is", "$x$", SCRIPT),
    Fact(COLOURED, "{} `is`", "@x", ""),
)

RUN = AppTest._run
Open = Callable[..., AppTest]
Stored = Callable[..., Result]


def fact_sets() -> dict[str, tuple[Fact, ...]]:
    """Sets of one, two and three facts; one the model answers in part; equal keys; hostile text; a large one."""
    builtin = facts.builtin().facts
    every = {(fact.subject, fact.prompt): fact for fact in (*builtin, *facts.builtin(LOOKALIKES).facts)}
    wrong = (Fact(fact.subject, fact.prompt, "zebra", fact.relation) for fact in builtin[ANSWERED:MIXED])
    return {
        "one": builtin[:1],
        "two": builtin[:2],
        "three": builtin[:3],
        "mixed": (*builtin[:ANSWERED], *wrong),
        "constant": tuple(Fact(builtin[0].subject, builtin[0].prompt, target) for target in "abcd"),
        "hostile": HOSTILE,
        "large": tuple(every.values())[:LARGE],
    }


@dataclass(frozen=True)
class Cache:
    """The filled cache folder.

    Attributes:
        folder: where it lies.
        sets: names that the pages give to `fact_sets`, by their key there.
        one_layer: folder of the model of a single layer.
    """

    folder: Path
    sets: dict[str, str]
    one_layer: Path

    def name(self, facts: str) -> str:
        """What a link calls a fact set."""
        return self.sets.get(facts, facts)

    def request(self, facts: str = "builtin", *, model: str = MODEL, tokens: int = DEFAULT_TOKENS) -> Request:
        """What a page asks for."""
        own = facts in self.sets
        source = str(saved.path_of(self.folder, self.sets[facts])) if own else facts
        return Request(model=model, facts=source, tokens=tokens)


def save_one_layer(folder: Path) -> Path:
    config = tiny.configs()["GPT-2"]
    config.n_layer = 1
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny.TOKENIZER_FOLDER, local_files_only=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Filled by the process that comes first; the others find all results stored."""
    with one_for_all_processes(tmp_path_factory, "pages") as root, pytest.MonkeyPatch.context() as patch:
        folder, one_layer = root / "cache", root / "one-layer"
        sets = {name: saved.save(folder, FactSet(name, made)) for name, made in fact_sets().items()}
        made = Cache(folder, sets, one_layer if one_layer.exists() else save_one_layer(one_layer))
        requests = [made.request(facts) for facts in ("builtin", LOOKALIKES, *sets)]
        requests += [made.request(facts, model=ONE_LAYER) for facts in ("builtin", "mixed")]
        requests += [made.request(facts, tokens=tokens) for facts in ("builtin", "mixed") for tokens in FEWER_TOKENS]
        with_one_layer(made, patch)
        models = LoadedModels()
        for request in requests:
            pipeline.run(request, Store(folder), models=models)
    return made


@pytest.fixture
def stored(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> Stored:
    """A result of the cache: `stored(facts, model=..., tokens=...)`."""
    with_one_layer(cache, monkeypatch)
    return lambda *facts, **options: pipeline.run(cache.request(*facts, **options), Store(cache.folder))


@pytest.fixture
def result(stored: Stored) -> Result:
    """That of the demo model on the built-in facts."""
    return stored()


def with_one_layer(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the catalogue know the model of a single layer as well."""
    known = catalog.demo()
    if ONE_LAYER not in [entry.name for entry in known]:
        files = ModelFiles(cache.one_layer)
        entry = catalog.ModelEntry(ONE_LAYER, catalog.DEMO, ONE_LAYER, 78_064, 1, 24, 40, files=files)
        monkeypatch.setattr(catalog, "demo", lambda: (*known, entry))


@pytest.fixture(scope="session")
def compiled() -> ScriptCache:
    """The pages' byte code, as a server keeps it; `AppTest` by itself compiles a page at every run."""
    return ScriptCache()


@pytest.fixture(scope="session")
def specifications() -> Callable[..., dict[str, Any]]:
    """The charts of all tests, each made once: most of a run of a page would go there."""
    made: dict[str, dict[str, Any]] = {}
    make_one = drawing._specification.__wrapped__
    # looked up for each of thousands of parts of a chart, and otherwise made anew each time
    classes = schemapi._FromDict(alt.SchemaBase._default_wrapper_classes())

    def specification(key: str, make: Callable[[], alt.LayerChart]) -> dict[str, Any]:
        if key not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(schemapi, "_FromDict", lambda _: classes)
                made[key] = make_one(key, make)
        return copy.deepcopy(made[key])

    return specification


def run_without_exception(page: AppTest, *how: Any, **options: Any) -> AppTest:
    """As `AppTest._run`, for pages that come to their end, however they are opened or touched."""
    RUN(page, *how, **options)
    assert not page.exception
    return page


@pytest.fixture
def open_page(
    cache: Cache, compiled: ScriptCache, specifications: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Open]:
    """Run a page with a link's query; the caches of the process are this test's own, and nothing computes unasked."""
    monkeypatch.setenv("KIS_CACHE", str(cache.folder))
    monkeypatch.setattr(results, "START_BY_ITSELF", 0)
    monkeypatch.setattr(speed, "probe", lambda *_: SPEED)  # else two seconds for a trial of this machine
    monkeypatch.setattr(memory, "settle", lambda: None)  # a server does it once; here it would be once a test
    # a third of the time; `test_charts.py` checks the finished specifications instead
    monkeypatch.setattr(alt.SchemaBase, "validate", classmethod(lambda *_, **__: None))
    monkeypatch.setattr(drawing, "_specification", specifications)
    monkeypatch.setattr(AppTest, "_run", run_without_exception)
    for module in (app_test, local_script_runner):
        monkeypatch.setattr(module, "ScriptCache", lambda: compiled)
    with_one_layer(cache, monkeypatch)
    st.cache_resource.clear()

    def opened(script: str, **query: str) -> AppTest:
        page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=SECONDS)
        page._bidi_component_manager = BidiComponentManager()  # else it looks through all installed packages for some
        if script != "app.py":
            page.switch_page(script)
        for name, value in {"model": MODEL, **query}.items():
            page.query_params[name] = cache.name(value) if name == "facts" else value
        return page.run()

    yield opened
    st.cache_resource.clear()


@pytest.fixture
def folder(open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of this test's own, empty, on a server that remembers nothing."""
    made = tmp_path / "cache"
    made.mkdir()
    monkeypatch.setenv("KIS_CACHE", str(made))
    st.cache_resource.clear()
    st.cache_data.clear()
    return made


@pytest.fixture(scope="session")
def once() -> Callable[[Open], Open]:
    """Opens each page once for all tests."""
    looked_at: dict[tuple[object, ...], AppTest] = {}

    def opening(opened: Open, *script: str, **query: str) -> AppTest:
        asked = (*script, *sorted(query.items()))
        if asked not in looked_at:
            looked_at[asked] = opened(*script, **query)
        return looked_at[asked]

    return lambda opened: partial(opening, opened)


@pytest.fixture
def look(open_page: Open, once: Callable[[Open], Open]) -> Open:
    """As `open_page`, but one run for all tests: for those that only look and touch nothing."""
    return once(open_page)


@pytest.fixture(scope="session")
def simulators() -> dict[object, Simulator]:
    return {}


@pytest.fixture
def open_edit(open_page: Open, simulators: dict[object, Simulator], monkeypatch: pytest.MonkeyPatch) -> Open:
    """Open the page of edits, where work starts unasked and is waited for; one model and simulator for all tests."""
    make = simulator._simulator.__wrapped__

    def shared(key: object, result: Result) -> Simulator:
        if key not in simulators:
            simulators[key] = make(key, result)
        return simulators[key]

    monkeypatch.setattr(results, "START_BY_ITSELF", sys.maxsize)
    monkeypatch.setattr(simulator, "QUICK", SECONDS)
    monkeypatch.setattr(simulator, "_simulator", shared)
    return lambda **query: open_page("pages/edit.py", **query)


@pytest.fixture
def look_at_edit(open_edit: Open, once: Callable[[Open], Open]) -> Open:
    """As `open_edit`, but one run for all tests: for those that touch nothing."""
    return once(open_edit)
