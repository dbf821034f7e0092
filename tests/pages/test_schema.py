"""Every chart that a page sends to the browser obeys the schema of Vega-Lite; elsewhere the pages' tests skip that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import pytest
from altair.utils.schemapi import validate_jsonschema
from jsonschema.exceptions import ValidationError
from streamlit.testing.v1 import AppTest

from pages.parts.frame import state
from tests import tiny
from tests.pages.conftest import Open
from tests.pages.lifelong_runs import quick, runs, seen
from tests.pages.looking import charts

__all__ = ["quick", "runs", "seen"]  # fixtures

VIEWS: tuple[tuple[str, dict[str, str]], ...] = (
    ("app.py", {}),
    ("pages/angles.py", {}),
    ("pages/compare.py", {"facts": "large"}),  # more facts than are drawn cell by cell
    ("pages/convergence.py", {}),
    ("pages/distributions.py", {"tail": "0.5~1.1"}),
    ("pages/scaling.py", {}),
    ("pages/superposition.py", {"facts": "hostile"}),
    ("pages/superposition.py", {"facts": "large"}),
)
EDIT = {"facts": "three", "pair": "0-1", "target": "French", "how": "steps:3"}
WITH_CHARTS = ("pair", "scatter", "layers", "search")  # looks at an edit that draw a chart of their own
CHRONICLES = tuple(name for name in state.CHRONICLE if name not in ("facts", "choosing"))  # which hold tables


def assert_obeys(page: AppTest) -> None:
    assert charts(page)
    for chart in charts(page):
        validate_jsonschema(chart.spec, alt.load_schema())


@pytest.mark.parametrize(("script", "link"), tiny.in_full(VIEWS, ("pages/distributions.py", "pages/scaling.py")))
def test_of_every_page(script: str, link: dict[str, str], look: Open) -> None:
    page = look(script, **link)
    assert_obeys(page)
    spec: dict[str, Any] = charts(page)[0].spec
    with pytest.raises(ValidationError):  # or nothing would be found
        validate_jsonschema(spec | {"layer": [*spec["layer"], {"mark": "spot"}]}, alt.load_schema())


@pytest.mark.parametrize("look", tiny.in_full(WITH_CHARTS, ("scatter",)))
def test_under_an_edit(look: str, look_at_edit: Callable[..., AppTest]) -> None:
    assert_obeys(look_at_edit(**EDIT, look=look, performed="yes"))


@pytest.mark.parametrize("chronicle", tiny.in_full(CHRONICLES, ("damage",)))
def test_of_a_run_of_edits(chronicle: str, seen: Callable[..., AppTest]) -> None:
    assert_obeys(seen(chronicle=chronicle))
