"""What comes with a figure: provenance, and files that hold what is drawn."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import streamlit as st

from kis_core.analysis.pipeline import Result
from pages.parts.frame.provenance import origin
from tests import tiny
from tests.pages.conftest import FORMULA, LAYERS, MODEL, SCRIPTS, Open, Stored
from tests.pages.looking import listed

FIGURES = {
    "app.py": 1, "pages/angles.py": 2, "pages/compare.py": 4, "pages/convergence.py": 4, "pages/distributions.py": 4,
    "pages/edit.py": 2, "pages/scaling.py": 3, "pages/superposition.py": 1, "pages/top_pairs.py": 0,
    "pages/network.py": 1, "pages/story.py": 1,
}  # fmt: skip
"""How many charts a page has at least that can be taken home as pictures."""
WITHOUT_FIGURES = {
    "pages/library.py", "pages/models.py", "pages/your_facts.py",
    "pages/lifelong.py",  # draws what was run, which is nothing here: it has tests of its own
    "pages/many_facts.py",  # likewise
}  # fmt: skip
DRAWN = ("app.py", "pages/edit.py", "pages/scaling.py")  # of each kind of chart one is drawn as a picture
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class File:
    """What a download button offers; `content` makes it, as a click would."""

    kind: str
    key: str
    name: str
    content: Callable[[], bytes | str]


Files = Callable[..., list[File]]


@pytest.fixture(scope="module")
def seen() -> dict[tuple[Any, ...], list[File]]:
    return {}


@pytest.fixture
def files_of(open_page: Open, seen: dict[tuple[Any, ...], list[File]], monkeypatch: pytest.MonkeyPatch) -> Files:
    """Every file that a page offers; one run of each page for all tests."""

    def opened(script: str, **link: str) -> list[File]:
        asked = (script, *sorted(link.items()))
        if asked in seen:
            return seen[asked]
        offered = seen[asked] = []

        def button(label: str, data: Any, file_name: str, mime: str, *, key: str = "", **_: Any) -> bool:
            offered.append(File(label, key, file_name, data))
            return False

        with monkeypatch.context() as patch:
            patch.setattr(st, "download_button", button)
            open_page(script, **link)
        return offered

    return opened


def of_kind(files: list[File], kind: str) -> list[File]:
    return [file for file in files if file.kind == kind]


def rows(file: File) -> list[list[str]]:
    content = file.content()
    assert isinstance(content, str)
    return list(csv.reader(io.StringIO(content)))


def test_every_page_is_known_with_its_figures() -> None:
    assert {*FIGURES, *WITHOUT_FIGURES} == {*SCRIPTS}


@pytest.mark.parametrize("script", tiny.in_full(FIGURES, (*DRAWN, "pages/compare.py", "pages/top_pairs.py")))
def test_every_figure_comes_as_picture_and_numbers(script: str, files_of: Files, look: Open) -> None:
    files = files_of(script)
    assert len(of_kind(files, "SVG")) == len(of_kind(files, "PNG")) >= FIGURES[script]
    assert len(of_kind(files, "CSV")) == len(of_kind(files, "NPZ")) > 0
    assert len({file.key for file in files}) == len(files)
    for file in files:
        stem, _, ending = file.name.rpartition(".")
        assert stem.replace("-", "").isalnum()
        assert ending == file.kind.lower()
    for file in of_kind(files, "CSV"):
        header, *lines = rows(file)
        assert lines
        assert all(header)
        assert {len(line) for line in lines} == {len(header)}
    for element in look(script).get("vega_lite_chart"):
        assert element.proto.alt, "those who do not see it are told of it"
        assert not re.search(r"[*`\\]", element.proto.alt), "without marks"


@pytest.mark.parametrize("script", tiny.in_full(FIGURES, ("pages/scaling.py",)))
def test_a_drawing_says_what_it_shows_and_from_what(script: str, files_of: Files, result: Result) -> None:
    file = of_kind(files_of(script), "SVG")[0]
    said = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", str(file.content()))).split())
    assert f"{MODEL} (weights {result.provenance['weights_sha256'][:8]})" in said
    assert "128 facts (builtin)" in said
    assert re.sub(r"[^a-z0-9]+", "-", said.lower()).count(file.name.removesuffix(".svg")), "its title"
    assert not re.search(r"[*`\\]", said), "no marks of Markdown"
    picture = of_kind(files_of(script), "PNG")[0].content()
    assert isinstance(picture, bytes)
    assert picture.startswith(PNG)
    assert int.from_bytes(picture[16:20], "big") > 1600, "of the header chunk: wide enough to be projected"


def test_the_matrices_are_those_of_the_result(files_of: Files, stored: Stored) -> None:
    content = of_kind(files_of("pages/top_pairs.py", facts="mixed", keep="known"), "NPZ")[0].content()
    assert isinstance(content, bytes)
    with np.load(io.BytesIO(content)) as arrays:
        assert arrays["layers"].tolist() == list(range(LAYERS))
        whole = stored("mixed")
        kept = np.flatnonzero(whole.known)
        for name in ("p", "whitening_cosine", "activation_cosine"):
            np.testing.assert_array_equal(arrays[name], getattr(whole, name)[:, kept[:, None], kept])


def test_the_table_of_a_list_is_that_on_the_page(files_of: Files, look: Open) -> None:
    (file,) = (file for file in of_kind(files_of("pages/top_pairs.py"), "CSV") if file.name == "top-pairs.csv")
    header, *lines = rows(file)
    shown = listed(look("pages/top_pairs.py"))
    i, j, p = (header.index(name) for name in ("i", "j", "p"))
    assert [(int(line[i]), int(line[j])) for line in lines] == list(zip(shown["i"], shown["j"], strict=True))
    assert [float(line[p]) for line in lines] == shown["p"].tolist(), "with all their digits"


def test_the_table_of_a_heatmap_names_the_edited_fact(files_of: Files, result: Result) -> None:
    header, *lines = rows(of_kind(files_of("app.py", layer="2"), "CSV")[0])
    edited = header.index("edited")
    for line in lines[::17]:
        for column in (0, 60, 127):
            assert float(line[column]) == result.p[2, int(line[edited]), int(header[column])]


@pytest.mark.parametrize("script", ["pages/top_pairs.py", "pages/superposition.py"])
def test_no_cell_of_a_table_is_a_formula(script: str, files_of: Files) -> None:
    tables = [rows(file) for file in of_kind(files_of(script, facts="hostile"), "CSV")]
    cells = [cell for table in tables for line in table for cell in line]
    assert not [cell for cell in cells if cell.startswith(("=", "@"))]
    assert any(cell.startswith(f"'{FORMULA}") for cell in cells)


def test_the_origin_tells_condition_revision_and_ridge(result: Result) -> None:
    assert f"no ridge (condition number of C {result.reports[2].condition_number:.1e})" in origin(result, 2)
    published = replace(result, provenance=result.provenance | {"revision": "0123456789abcdef"})
    assert f"{MODEL} (01234567) · " in origin(published, 0), "a revision in place of the weights"
    ridged = replace(result.reports[1], ridge=2.5e-7, rank=77)
    with_ridge = replace(result, reports=(result.reports[0], ridged, *result.reports[2:]))
    assert "ridge 2.50e-07 added: C has rank 77" in origin(with_ridge, 1)
    assert "no ridge" in origin(with_ridge, 0)
    assert "ridge added in layers 1" in origin(with_ridge, None)
