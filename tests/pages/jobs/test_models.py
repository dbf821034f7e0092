"""Models: what each needs is told before anything is loaded; any name may be typed; Compute asks for what is shown."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from kis_core import __main__ as command_line
from kis_core import machine
from kis_core.analysis import pipeline, unfinished
from kis_core.analysis.requirements import QUICK_SECONDS, required_bytes, requirements_of
from kis_core.commands import options
from kis_core.corpora import BUILTIN_NAME, PAPER_DOCUMENTS, WIKIPEDIA_NAME
from kis_core.covariance import rome_files
from kis_core.jobs import State
from kis_core.machine import Device
from kis_core.models import catalog, loading
from kis_core.models.holder import LoadedModels
from kis_core.progress import Cancelled
from kis_core.request import DEFAULT_TOKENS, Request
from kis_core.results import archive
from kis_core.store.store import Store
from pages.parts.jobs.model_card import FILE, PAPER
from tests import tiny
from tests.pages.conftest import MODEL, PICTURE, SCRIPT, Open
from tests.pages.looking import captions, finish, labels, markdown, press, table_of, tick, unescaped
from tests.pages.small_hub import SPEED, Hub, device

PAGE = "pages/models.py"
TYPED = "someone/tiny-llama"
NO_TEXT = "![x](e).txt"
LOAD = loading.load
pytestmark = pytest.mark.usefixtures("quick", "hub", "fresh")

Devices = Callable[..., None]
Begun = list[tuple[Request, str]]


@pytest.fixture
def fresh(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty cache folder; nothing is remembered of this machine, now or later, and no model is loaded."""
    monkeypatch.setattr(loading, "load", None)
    yield
    st.cache_data.clear()


@pytest.fixture
def machine_of(monkeypatch: pytest.MonkeyPatch) -> Devices:
    """Let this machine have other devices."""

    def has(*devices: Device) -> None:
        monkeypatch.setattr(machine, "devices", lambda *_: devices)
        st.cache_data.clear()

    return has


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Begun:
    """What jobs were begun with; none of them computes anything, or comes to an end of its own."""
    requests: Begun = []

    def run(request: Request, *_: Any, device: str, **__: Any) -> None:
        requests.append((request, device))
        raise Cancelled

    monkeypatch.setattr(pipeline, "run", run)
    return requests


def table(page: AppTest) -> Any:
    return table_of(page, "name", "fits")


def select(page: AppTest, name: str) -> AppTest:
    """Select a model's row."""
    return tick(page, table(page), table(page).value["name"].tolist().index(name))


def type_in(page: AppTest, name: str) -> AppTest:
    return page.text_input(key="typed-model").set_value(name).run()


def as_in_the_paper(page: AppTest, name: str, kind: str = "cpu") -> AppTest:
    return page.segmented_control(key=f"amount-{name}-{kind}").set_value(PAPER).run()


def card(page: AppTest) -> str:
    """The model whose card is shown."""
    (title,) = (element.value for element in page.markdown if element.value.startswith("#### "))
    return unescaped(title.removeprefix("#### "))


def command(page: AppTest) -> Any:
    """The shown command, as the command line reads it."""
    (line,) = (code.value for code in page.code if "kis_core" in code.value)
    assert line.startswith("python -m kis_core ")
    return command_line._parser().parse_args(shlex.split(line)[3:])


def test_every_model_of_the_catalogue_is_listed_with_its_needs(open_page: Open, machine_of: Devices, hub: Hub) -> None:
    there = device("cpu", 2000)
    machine_of(there)
    page = open_page(PAGE)
    frame = table(page).value.set_index("name")
    assert frame.index.tolist() == [entry.name for entry in catalog.entries()]
    assert frame.index[frame["paper"]].tolist() == [entry.name for entry in catalog.PAPER]
    assert (frame["here"]["gpt2"], frame["here"][MODEL]) == ("", "embedded")
    for entry in catalog.entries():
        shown = frame.loc[entry.name]
        assert (shown["layers"], shown["width"], shown["mlp_width"]) == (entry.layers, entry.width, entry.mlp_width)
        assert bool(shown["gated"]) == entry.gated
    for name in (MODEL, "gpt-j-6b", "llama-2-7b"):
        select(page, name)
        assert not page.error
        assert card(page) == name
        entry = catalog.find(name)  # type: ignore[assignment]
        if not entry.files:
            assert "reads less text than C of these layers needs" in page.warning[0].value
            assert not labels(page), "hours are not what a quick look takes"
            as_in_the_paper(page, name)
        guess = DEFAULT_TOKENS if entry.files else PAPER_DOCUMENTS * min(600, entry.context)
        needs = requirements_of(entry, guess, device=there, dtype="float32", speed=SPEED)
        (line,) = (element.value for element in page.markdown if element.value.startswith("weights |"))
        assert f"**{needs.passes}**" in line
        assert f"{guess:,} tokens" in captions(page)
        assert labels(page) == ["Compute"]
    assert len(page.text_input) == 1, "and no field takes a token"
    assert not hub.downloads
    name = next(entry.name for entry in catalog.entries() if not entry.safetensors)
    select(page, name)
    assert "save_pretrained" in page.warning[0].value
    assert not labels(page)
    assert frame["fits"][name] == "no safetensors"


def test_what_is_too_large_is_refused_with_the_nearest_that_fits(
    open_page: Open, machine_of: Devices, begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = device("cpu", 2)
    machine_of(there)
    monkeypatch.setattr(LoadedModels, "held_bytes", 1_200_000_000)
    page = select(open_page(PAGE), "llama-3.1-70b")
    entry = catalog.find("llama-3.1-70b")
    assert entry is not None
    assert table(page).value.set_index("name")["fits"][entry.name] == "too large"
    refusal = unescaped(page.warning[0].value)
    assert f"{required_bytes(entry, there, 'bfloat16'):,} bytes" in refusal
    assert "2,000,000,000 bytes free" in refusal
    nearest = requirements_of(entry, 1, device=there, dtype="bfloat16").nearest
    assert nearest is not None
    assert f"The nearest model that fits here is {nearest}" in refusal
    free = "Free the 1.2 GB of models loaded before"
    assert labels(page) == [f"Look at {nearest}", free], "there is nothing to press that would load it"
    assert command(page).model == entry.name, "another machine may have room"
    press(page, f"Look at {nearest}")
    assert card(page) == nearest
    assert "Compute" in labels(as_in_the_paper(page, nearest))
    assert not begun


def test_a_chosen_device_stays_chosen_as_memory_changes(open_page: Open, machine_of: Devices, begun: Begun) -> None:
    machine_of(device("cuda:0", 80, "cuda"), device("cpu", 60))
    page = select(open_page(PAGE), "gpt2")
    assert page.selectbox(key="device-gpt2").value == "cuda:0"
    page.selectbox(key="device-gpt2").set_value("cpu").run()
    machine_of(device("cuda:0", 70, "cuda"), device("cpu", 50))
    page.run()
    assert page.selectbox(key="device-gpt2").value == "cpu"
    press(page, "Compute")
    finish()
    assert [device for _, device in begun] == ["cpu"]


def test_a_typed_id_or_folder_is_looked_up_without_its_weights(open_page: Open, hub: Hub, tmp_path: Path) -> None:
    hub.folders[TYPED] = tiny.save("Llama", tmp_path / "model")
    page = type_in(select(open_page(PAGE), "gpt2"), f"  {TYPED} ")
    assert card(page) == TYPED
    assert "3 layers · d = 24 · dₘ = 40 · context 64" in unescaped(captions(page))
    assert "Compute" in labels(page)
    assert not hub.downloads
    folder = tiny.save("GPT-2", tmp_path / "my *model*")
    type_in(page, str(folder))
    assert card(page) == "my *model*"
    assert "download about" not in captions(page)
    assert command(page).model == str(folder)
    assert card(select(page, "pythia-1b")) == "pythia-1b"
    assert page.text_input(key="typed-model").value == ""


def test_hostile_names_are_refused_as_text(open_page: Open, begun: Begun) -> None:
    page = open_page(PAGE)
    for name in ("../../etc", "gpt2\0", "x" * 5000, "org/na me", "$(touch here)", SCRIPT, PICTURE):
        type_in(page, name)
        assert len(page.error) == 1, name
        assert len(page.error[0].value) < 1000
        assert SCRIPT not in markdown(page)
        assert PICTURE not in markdown(page)
        assert card(page) == MODEL, "that of the model chosen on the left"
    assert not begun


def test_a_folder_that_cannot_be_read_says_so_and_is_read_again_once_mended(open_page: Open, tmp_path: Path) -> None:
    page = type_in(open_page(PAGE), str(tmp_path))
    assert page.error
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    page.run()
    assert "mamba" in page.error[0].value
    assert "GPT" in page.error[0].value
    tiny.every_config()["OPT"].save_pretrained(tmp_path)
    assert not page.run().error
    assert card(page) == tmp_path.name


def test_what_cannot_be_had_says_what_to_do(open_page: Open, hub: Hub) -> None:
    page = open_page(PAGE)
    for how, said in (
        ("offline", "cannot be downloaded now. Connect to the network, or give the folder of a local copy"),
        ("absent", "There is no model 'someone/tiny-llama' on the Hugging Face Hub"),
        ("gated", "accept its licence at https://huggingface.co/someone/tiny-llama"),
    ):
        hub.offline = how == "offline"
        hub.gated = {TYPED} if how == "gated" else set()
        type_in(page, TYPED)
        assert said in unescaped(page.error[0].value)
        links = [element.proto.url for element in page.get("link_button")]
        assert links == (["https://huggingface.co/someone/tiny-llama"] if how == "gated" else [])
        assert ("hf auth login" in [code.value for code in page.code]) == (how == "gated")


def test_the_choices_make_the_request_and_the_command_line(open_page: Open, begun: Begun, machine_of: Devices) -> None:
    machine_of(device("cpu", 60))
    page = select(open_page(PAGE, facts="builtin-lookalikes"), "gpt2")
    entry = catalog.find("gpt2")
    assert entry is not None
    quick = options.request_of(command(page), layers=None)
    assert (quick.corpus, quick.documents, quick.settled) == (BUILTIN_NAME, None, 0.02)
    there = device("cpu", 60)
    needs = requirements_of(entry, quick.tokens, device=there, dtype="float32", speed=SPEED)
    assert needs.seconds == pytest.approx(QUICK_SECONDS, rel=0.05), "to two digits"
    as_in_the_paper(page, "gpt2")
    usual = {"revision": entry.revision, "documents": PAPER_DOCUMENTS}
    expected = Request("gpt2", "builtin-lookalikes", WIKIPEDIA_NAME, None, **usual)
    assert options.request_of(command(page), layers=None) == expected
    page.selectbox(key="dtype-gpt2").set_value("bfloat16").run()
    page.number_input(key="documents-gpt2").set_value(500).run()
    page.number_input(key="tokens-gpt2-False").set_value(9_000).run()
    page.slider(key="layers-gpt2").set_value((2, 4)).run()
    page.toggle(key="settled-gpt2-False").set_value(True).run()
    args = command(page)
    press(page, "Compute")
    finish()
    ((request, where),) = begun
    assert where == args.device == "cpu"
    assert options.request_of(args, layers=options.chosen_layers(args.layers)) == request
    assert (request.tokens, request.documents, request.layers, request.settled) == (9_000, 500, (2, 3, 4), 0.02)
    assert request.dtype == "bfloat16"
    assert page.query_params["model"] == "gpt2"
    assert page.session_state["chosen"]["behind"] == request.c_settings


def json_lines(folder: Path) -> Path:
    path = folder / "text of mine.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"Rome lies in Italy, {line}."}) for line in range(300)), "utf-8")
    return path


def statistics(folder: Path) -> Path:
    """C of the tiny model's layers as ROME keeps it; a folder of such files is told by its files."""
    keys = np.random.default_rng(0).standard_normal((200, 40))
    for layer in range(3):
        module = f"model.layers.{layer}.mlp.down_proj"
        path = rome_files.path_for(folder / "stats", TYPED, "wikipedia", module, 100)
        rome_files.write(path, keys.T @ keys / 200, 200, 100)
    return path.parent


def with_text(page: AppTest, path: str) -> AppTest:
    as_in_the_paper(page, TYPED).selectbox(key=f"corpus-{TYPED}-False").set_value(FILE).run()
    assert "Compute" not in labels(page), "first the path"
    return page.text_input(key="corpus-path").set_value(path).run()


@pytest.mark.parametrize("made", [json_lines, pytest.param(statistics, marks=pytest.mark.stress)])
def test_c_comes_from_what_the_user_has(
    made: Callable[[Path], Path], open_page: Open, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load", LOAD)
    hub.folders[TYPED] = tiny.save("Llama", tmp_path / "model")
    source = str(made(tmp_path))
    page = with_text(type_in(open_page(PAGE, facts="three"), TYPED), source)
    assert command(page).corpus == source
    press(page, "Compute")
    assert [(job.state, job.error) for job in finish()] == [(State.DONE, None)]
    (computed,) = archive.computed(Store())
    asked = computed.request
    assert (asked.model, asked.corpus, asked.documents) == (TYPED, source, PAPER_DOCUMENTS)
    link = {name: page.run().query_params[name] for name in ("model", "behind")}
    page = open_page("app.py", facts="three", **link)
    assert not page.error
    assert Path(source).name in unescaped(captions(page)), "the text is told in the frame"


def test_a_text_that_is_not_there_is_told_where_it_was_asked_for(open_page: Open, hub: Hub, tmp_path: Path) -> None:
    hub.folders[TYPED] = tiny.save("Llama", tmp_path / "model")
    page = with_text(type_in(open_page(PAGE), TYPED), f"{tmp_path}/{NO_TEXT}")
    press(page, "Compute")
    assert [job.state for job in finish()] == [State.FAILED]
    page.run()
    assert NO_TEXT in unescaped(page.error[0].value)
    assert NO_TEXT not in markdown(page)
    press(page, "Discard")
    assert not page.error
    assert unfinished.unfinished(Store()) == []
