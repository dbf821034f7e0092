"""What is not computed yet: progress, what went wrong, and what starts by itself."""

from __future__ import annotations

from typing import Any

import pytest

from kis_core.analysis import pipeline
from kis_core.analysis.pipeline import Result
from kis_core.covariance.settling import Look
from kis_core.errors import KisError
from kis_core.models import catalog
from kis_core.request import DEFAULT_TOKENS
from kis_core.results import convergence
from pages.parts.frame.text import plain
from pages.parts.jobs import background, results, waiting
from tests.pages.conftest import MODEL, NOT_COMPUTED, ONE_LAYER, Open
from tests.pages.looking import captions, charts, finish, labels, markdown, press

MOMENT = "Second moment of the keys"
SMALL = 50_000_000  # parameters: all demo models have fewer


@pytest.fixture
def starts_by_itself(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "START_BY_ITSELF", SMALL)


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> list[pipeline.Request]:
    """Computations that were begun, in order; none of them computes anything."""
    requests: list[pipeline.Request] = []
    monkeypatch.setattr(pipeline, "run", lambda request, *_, **__: requests.append(request))
    monkeypatch.setattr(background, "settle_imports", lambda: None)  # heavy imports that nothing here needs
    return requests


def refuse(*_: Any, **__: Any) -> Result:
    raise KisError("layer 3: an activation is *not* finite")


@pytest.mark.usefixtures("starts_by_itself", "folder")
def test_what_is_not_computed_yet_shows_progress_and_then_the_figure(open_page: Open) -> None:
    page = open_page("pages/superposition.py", model=ONE_LAYER)
    assert any("Computing this view" in element.value for element in page.markdown)
    assert labels(page) == ["Cancel"]
    finish()
    page.run()
    assert charts(page)


@pytest.mark.usefixtures("starts_by_itself", "folder")
def test_a_failed_computation_says_why_and_can_be_tried_again(
    open_page: Open, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    def crash(*_: Any, **__: Any) -> Result:
        raise RuntimeError("/home/someone/secret")

    monkeypatch.setattr(pipeline, "run", refuse)
    page = open_page("pages/superposition.py")
    finish()
    page.run()
    assert page.error[0].value == plain("layer 3: an activation is *not* finite")
    assert labels(page) == ["Try again"]
    monkeypatch.setattr(pipeline, "run", crash)
    press(page, "Try again")
    finish()
    page.run()
    assert "RuntimeError" in page.error[0].value
    assert "secret" not in markdown(page), "of what is none of ours the kind is told, and no more"
    asked: list[pipeline.Request] = request.getfixturevalue("asked_for")
    for _ in range(2):
        press(page, "Try again")
        finish()
        page.run()
        assert "could not be kept" in page.error[0].value.replace("\\", "")
    assert [request.model for request in asked] == [MODEL] * 2, "and is not computed for ever"


def test_a_model_of_some_size_is_computed_only_when_asked(open_page: Open, asked_for: list[pipeline.Request]) -> None:
    page = open_page("app.py", model=NOT_COMPUTED)
    assert plain(NOT_COMPUTED) in page.info[0].value or NOT_COMPUTED in page.info[0].value
    assert not results.runner()._jobs
    assert "Estimated for this machine: under a minute" in captions(page)
    press(page, "Compute")
    finish()
    assert [request.model for request in asked_for] == [NOT_COMPUTED]


@pytest.mark.usefixtures("starts_by_itself")
def test_missing_models_and_texts_are_computed_when_asked_for(
    open_page: Open, asked_for: list[pipeline.Request]
) -> None:
    page = open_page("pages/scaling.py")
    assert len(charts(page)) == 3, "what is there is shown at once"
    assert not results.runner()._jobs
    assert "Estimated for this machine: under a minute" in captions(page)
    press(page, f"Compute the {len(catalog.demo()) - 2} missing demo models")
    finish()
    missing = [entry.name for entry in catalog.demo() if entry.name not in (MODEL, ONE_LAYER)]
    assert [(request.model, request.facts) for request in asked_for] == [(name, "builtin") for name in missing]
    asked_for.clear()
    fewer = list(convergence.token_counts(DEFAULT_TOKENS))[:-1]
    press(open_page("pages/convergence.py", facts="three"), f"Compute the {len(fewer)} missing amounts of text")
    finish()
    assert [(request.model, request.tokens) for request in asked_for] == [(MODEL, tokens) for tokens in fewer]


@pytest.mark.usefixtures("starts_by_itself")
def test_a_missing_one_that_failed_is_told_and_not_tried_for_ever(
    open_page: Open, monkeypatch: pytest.MonkeyPatch, asked_for: list[pipeline.Request]
) -> None:
    monkeypatch.setattr(pipeline, "run", refuse)
    (label,) = labels(page := open_page("pages/convergence.py", facts="three"))
    press(page, label)
    finish()
    before = dict(results.runner()._jobs)
    page.run()
    assert plain("an activation is *not* finite") in page.warning[0].value
    assert results.runner()._jobs == before
    assert label in labels(page)


def test_of_facts_without_a_spread_the_last_looks_tell_no_number() -> None:
    nothing = Look(4_500, 0, float("nan"))
    assert waiting.movement([nothing]) == "At 4,500 tokens P of these facts has no spread that it could move by."
    said = waiting.movement([Look(3_000, 0, 0.9), nothing, Look(4_500, 3, 0.0184)])
    assert "1.8% in layer 3" in said
    assert "nan" not in said
