"""Making what comes with the program: what is written of a model, what is left out, and what stays of others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from kis_core import lifelong, superposition
from kis_core.analysis import pipeline
from kis_core.models import catalog
from kis_core.request import Request
from kis_core.results import archive
from kis_core.simulator import Simulator
from kis_core.store.shipped import FOLDER
from kis_core.store.store import Store
from kis_core.studies import gallery
from kis_core.studies.gallery import Made
from tests.facts.mutation_tools import good
from tests.results.results_tools import made
from tests.simulator.simulator_tools import no_model

ROUNDING = 1e-9  # of the same float64 numbers, added up on another machine
ANOTHER_MACHINE = 1e-4  # of P, whose keys are read in float32; its entries are of the order of 1

GOOD = good()
RESULT, RUN, EDIT = (next(key for key in GOOD if key.startswith(kind)) for kind in ("superp", "lifelong", "performed"))


def make(monkeypatch: pytest.MonkeyPatch, out: Path, *asked: tuple[str, tuple[str, ...]]) -> None:
    """Run the command as if these values were computed of these models."""
    made = dict(asked)

    def computed(request: Request, work: Store) -> Iterator[Made]:
        for key in made[request.model]:
            entry = GOOD[key]
            if key == RESULT:
                entry.meta["provenance"]["request"]["corpus"] = "/home/someone/wiki.txt"
            work.put(key, entry.meta, entry.arrays)
            yield Made("a value", request.model, key)

    monkeypatch.setattr(gallery, "requests", lambda **_: [Request(model=name) for name in made])
    monkeypatch.setattr(gallery, "made", computed)
    monkeypatch.setattr(sys, "argv", ["gallery", "--out", str(out)])
    gallery.main()


def test_it_holds_what_pages_read_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gallery"
    make(monkeypatch, out, ("one", (RESULT, RUN)), ("other", (EDIT,)))
    store = Store(tmp_path / "fresh", out)
    result, run = archive.read(RESULT, store), store.get(RUN)
    assert result
    assert run
    assert result.request.corpus == "wiki.txt", "no place of this machine"
    assert pipeline.SECOND_MOMENT not in {item.kind for item in store.inventory()}
    assert not [name for name in run.arrays if name.startswith("state.")]
    assert "someone" not in "".join(path.read_text() for path in out.glob("*/*.json"))
    assert f"{sum(path.stat().st_size for path in out.glob('*/*')):,} bytes" in capsys.readouterr().out

    make(monkeypatch, out, ("one", (RUN,)))
    assert {item.key for item in Store(tmp_path / "again", out).inventory()} == {RUN, EDIT}

    monkeypatch.setattr(gallery, "MOST_BYTES", 10)
    with pytest.raises(SystemExit, match="leave something out"):
        make(monkeypatch, out, ("one", (RUN,)))


def test_the_real_models_follow_on_facts_that_they_answer() -> None:
    demo = gallery.requests(real=False, corpus="builtin", tokens=None)
    both = gallery.requests(real=True, corpus="wiki.txt", tokens=9)
    assert both[: len(demo)] == demo
    assert {(one.facts, one.corpus, one.tokens) for one in demo} == {("builtin", "builtin", Request().tokens)}
    assert {(one.facts, one.corpus, one.tokens) for one in both[len(demo) :]} == {("builtin-real", "wiki.txt", 9)}
    assert len(both) == len(demo) + 2


@pytest.fixture
def shipped(tmp_path: Path) -> Store:
    """What comes with the program, below an empty cache."""
    if not FOLDER.is_dir():
        pytest.skip("nothing comes with the program yet; `make gallery` computes it")
    return Store(tmp_path, FOLDER)


def test_what_is_shipped_is_what_pages_ask_for(shipped: Store) -> None:
    for request in gallery.requests(real=False, corpus="builtin", tokens=None):
        result = pipeline.cached(pipeline.resolve(request, shipped), shipped)
        assert result, f"nothing of {request.model} is shipped in this version's format: `make gallery`"
        bench = Simulator(result, shipped, no_model)
        assert all(bench.performed(edit, 1.0) for edit in gallery.default_edits(bench))
        run = gallery.default_run(bench)
        assert lifelong.finished(lifelong.known(bench, run), run)


def test_what_is_shipped_of_real_models_is_what_pages_ask_for(shipped: Store) -> None:
    packed = {entry.name for entry in catalog.hub() if entry.package}
    results = [result for one in archive.computed(shipped) if (result := archive.read(one.key, shipped))]
    real = [result for result in results if result.request.model in packed]
    assert {result.request.model for result in real} == packed
    for result in real:
        bench = Simulator(result, shipped, no_model)
        edits = gallery.default_edits(bench)
        assert len(edits) == min(gallery.MOST_EDITS, len(result.editable_layers))
        assert all(bench.performed(edit, 1.0) for edit in edits)
        run = gallery.default_run(bench)
        assert lifelong.finished(lifelong.known(bench, run), run)


def test_p_of_what_is_shipped_follows_from_its_angles_and_leverage_and_the_statistics_from_p(shipped: Store) -> None:
    for one in archive.computed(shipped):
        result = archive.read(one.key, shipped)
        assert result
        assert [report.layer for report in result.reports] == list(result.layers)
        for at, report in enumerate(result.reports):
            p, leverage = result.p[at], result.leverage[at]
            expected = result.whitening_cosine[at] * np.sqrt(leverage / leverage[:, None])
            np.testing.assert_allclose(p, expected, rtol=ROUNDING, atol=ROUNDING)
            assert asdict(superposition.moments(p)) == pytest.approx(asdict(report.moments), rel=ROUNDING)
            clean = superposition.moments(result.clean(report.layer))
            assert asdict(clean) == pytest.approx(asdict(report.clean_moments), rel=ROUNDING)


@pytest.mark.stress
def test_a_shipped_result_comes_out_again(shipped: Store, tmp_path: Path) -> None:
    request = Request(model="demo-gpt2-32")
    kept, anew = pipeline.run(request, shipped), pipeline.run(request, Store(tmp_path / "anew", gallery=""))
    assert kept.provenance["shipped"]
    np.testing.assert_allclose(kept.p, anew.p, atol=ANOTHER_MACHINE)


def test_of_many_layers_twenty_are_edited_the_first_and_the_last_among_them(tmp_path: Path) -> None:
    many = 23
    result = made(np.tile(np.eye(4) + np.eye(4, k=1) / 2, (many, 1, 1)), relations=["a"] * 4)
    layers = [edit.layer for edit in gallery.default_edits(Simulator(result, Store(tmp_path), no_model))]
    assert (len(layers), len(set(layers)), layers[0], layers[-1]) == (20, 20, 0, many - 2)
