"""The pages, run without a browser: what they show, and how choices travel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from kis_core import jobs, pipeline
from kis_core.errors import KisError
from kis_core.pairs import strongest_between_subjects
from kis_core.pipeline import Result
from pages.parts import results
from pages.parts.text import plain
from tests.pages.conftest import MODEL, ROOT, Open

SCRIPTS = ("app.py", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "pages").glob("*.py")))


def captions(page: AppTest) -> str:
    return "\n".join(caption.value for caption in page.caption)


def html(page: AppTest) -> str:
    return "\n".join(element.proto.body for element in page.get("html"))


def heatmap_spec(page: AppTest) -> dict:
    return json.loads(page.get("vega_lite_chart")[0].proto.spec)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_page_shows_a_figure_with_its_provenance(script: str, open_page: Open) -> None:
    page = open_page(script)
    assert not page.exception
    assert not page.error
    assert page.get("vega_lite_chart")
    for said in (plain(MODEL), "layer 0", "128 facts (builtin)", "100,000 tokens", "no ridge", "eq. 16"):
        assert said in captions(page)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_page_imports_no_torch(script: str) -> None:
    source = (ROOT / script).read_text("utf-8")
    assert "torch" not in source
    assert "transformers" not in source


def test_the_overview_states_the_moments_of_the_chosen_layer(open_page: Open, result: Result) -> None:
    page = open_page("app.py", layer="1")
    moments = result.reports[1].moments
    shown = {metric.label: metric.value for metric in page.metric}
    assert shown["excess kurtosis"] == f"{moments.kurtosis:.1f}"
    assert shown["mean of P"] == f"{moments.mean:+.3f}"
    assert shown["largest P"] == f"{moments.max:.2f}"


def test_a_linked_pair_is_inspected(open_page: Open, result: Result) -> None:
    page = open_page("pages/superposition.py", pair="0-1", layer="2")
    shown = html(page)
    assert "<b>Vladimir Mayakovsky</b>" in shown
    assert "<b>Vladimir Bukovsky</b>" in shown
    assert f"{result.p[2, 0, 1]:+.3f}" in shown
    assert f"{result.p[2, 1, 0]:+.3f}" in shown
    assert all(text in shown for text, _ in result.answers[0])


def test_without_a_pair_the_strongest_one_is_shown(open_page: Open, result: Result) -> None:
    page = open_page("pages/superposition.py")
    i, j = strongest_between_subjects(result, 0)[0]
    assert f"edit fact i = {i}<" in html(page)
    assert f"and fact j = {j} suffers" in html(page)
    assert "pair" not in page.query_params, "a suggestion is no choice"


def test_artefacts_are_tagged(open_page: Open, result: Result) -> None:
    i, j = next(zip(*result.same_subject.nonzero(), strict=True))
    page = open_page("pages/superposition.py", pair=f"{i}-{j}")
    assert any("same subject" in element.proto.body for element in page.markdown)


def test_the_diagonal_is_labelled(open_page: Open) -> None:
    page = open_page("pages/superposition.py", pair="3-3")
    assert any("diagonal" in element.proto.body for element in page.markdown)


def test_next_walks_to_a_weaker_pair_and_writes_the_link(open_page: Open, result: Result) -> None:
    page = open_page("pages/superposition.py", pair="0-1")
    before = abs(result.p[0, 0, 1])
    page.button(key="step-Right").click().run()
    i, j = (int(part) for part in page.query_params["pair"].split("-"))
    assert 0 < abs(result.p[0, i, j]) <= before
    page.button(key="step-Left").click().run()
    assert page.query_params["pair"] == "0-1"


def test_searching_one_subject_finds_its_strongest_partner(open_page: Open, result: Result) -> None:
    page = open_page("pages/superposition.py")
    page.selectbox(key="edited").select_index(7).run()
    i, _ = (int(part) for part in page.query_params["pair"].split("-"))
    assert i == 7


def test_hiding_the_diagonal_takes_it_out_of_the_chart(open_page: Open) -> None:
    shown = open_page("pages/superposition.py")
    hidden = open_page("pages/superposition.py", diagonal="hidden")
    rows = [len(page.get("vega_lite_chart")[0].proto.SerializeToString()) for page in (shown, hidden)]
    assert rows[1] < rows[0]


def test_colour_limits_are_stated(open_page: Open, result: Result) -> None:
    page = open_page("pages/superposition.py", limit="0.1")
    beyond = int((abs(result.p[0]) > 0.1).sum()) - len(result.facts)
    assert f"Colours end at ±0.1; {beyond} of 16,256" in captions(page)
    assert "[-0.1, 0.1]" in json.dumps(heatmap_spec(page))


def test_a_model_with_fewer_layers_takes_its_last(open_page: Open) -> None:
    page = open_page("app.py", layer="3")
    page.session_state["chosen"]["layer"] = 11
    page.run()
    assert not page.exception
    assert page.slider[0].value == 3


def test_a_link_to_what_is_not_there_says_so_until_something_is_chosen(open_page: Open) -> None:
    page = open_page("pages/superposition.py", model="<script>", layer="-1", pair="0", facts="../../etc")
    notices = [element.value for element in page.info]
    assert len(notices) == 1
    assert all(word in notices[0] for word in ("model", "layer", "pair", "facts"))
    page.slider[0].set_value(1).run()
    assert not [element for element in page.info if "This link" in element.value], "gone once something is chosen"


def test_a_pair_beyond_the_facts_is_told(open_page: Open) -> None:
    page = open_page("pages/superposition.py", pair="0-5000")
    assert any("0-5000 is not among these 128 facts" in element.value for element in page.info)


def test_what_is_not_computed_yet_shows_progress_and_then_the_figure(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KIS_CACHE", str(tmp_path))
    st.cache_resource.clear()
    page = open_page_again = open_page("pages/superposition.py")
    assert any("Computing this view" in element.value for element in page.markdown)
    assert [button.label for button in page.button] == ["Cancel"]
    for job in results.runner()._jobs.values():
        assert job.wait(120)
    open_page_again.run()
    assert not page.exception
    assert page.get("vega_lite_chart")


def test_a_failed_computation_says_what_to_do(open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Result:
        raise KisError("layer 3: an activation is not finite")

    monkeypatch.setenv("KIS_CACHE", str(tmp_path))
    monkeypatch.setattr(pipeline, "run", refuse)
    st.cache_resource.clear()
    page = open_page("pages/superposition.py")
    for job in results.runner()._jobs.values():
        assert job.wait(30)
    page.run()
    assert page.error[0].value == plain("layer 3: an activation is not finite")
    assert [button.label for button in page.button] == ["Try again"]


def test_a_result_that_could_not_be_kept_is_told_and_not_computed_for_ever(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    monkeypatch.setenv("KIS_CACHE", str(tmp_path))
    monkeypatch.setattr(pipeline, "run", lambda *_, **__: runs.append(1))
    st.cache_resource.clear()
    page = open_page("pages/superposition.py")
    for job in list(results.runner()._jobs.values()):
        assert job.wait(30)
    page.run()
    assert "could not be kept" in page.error[0].value.replace("\\", "")
    assert runs == [1]


def test_a_second_asker_joins_the_running_job() -> None:
    runner = jobs.Runner()
    first = runner.submit("key", lambda report: None)
    assert runner.find("key") is first


@pytest.mark.parametrize("layer", ["4", "99", "-1", "two", "1e1"])
def test_a_link_to_a_layer_the_model_lacks_says_which_there_are(open_page: Open, layer: str) -> None:
    page = open_page("pages/superposition.py", layer=layer)
    assert "has layers 0 to 3" in page.info[0].value
    assert page.slider[0].value == 0
