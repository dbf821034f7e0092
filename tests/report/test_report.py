"""A report as a file: its numbers are those of the result, its texts are no markup, and it needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from kis_core import report, superposition
from kis_core.__main__ import main
from kis_core.analysis import pipeline
from kis_core.lifelong.trace import OF_RESULT, from_entry
from kis_core.report import contents, edits
from kis_core.report.page import SCRIPTS, TEMPLATE
from kis_core.request import Request
from kis_core.results import archive, pairs
from kis_core.results.result import Result
from kis_core.simulator import without_model
from kis_core.store.shipped import FOLDER
from kis_core.store.store import Store, key_of
from kis_core.studies import gallery
from kis_core.wording import number
from tests.report.report_tools import CLOSING, FILE, Elements, data_of, hostile, policy_of, ranking_of
from tests.report.test_packing import unpacked
from tests.results.results_tools import made

ROOT = Path(__file__).resolve().parents[2]
MODEL = "demo-gpt2-32"
MOST_BYTES = 10_000_000  # of twelve layers of 128 facts
LOADS = re.compile(r"""(?:src|srcset|action|poster)\s*=|url\(|@import|<link|fetch\(|XMLHttp|import\(|WebSocket""")
AS_MARKUP = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|setHTML|DOMParser|eval\(|new Function")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return report.html(hostile(), Store(tmp_path_factory.mktemp("store"), gallery=""))


def test_p_and_angles_are_those_of_the_result_to_the_rounding_that_is_said(page: str) -> None:
    result, data = hostile(), data_of(page)
    assert data["decimals"] == {"p": 3, "angle": 1}
    assert "P is held to 0.001 and angles to 0.1°" in page
    for at, layer in enumerate(data["layers"]):
        m = len(result.facts)
        back = unpacked(layer["p"]).reshape(m, m) / 1000
        assert [number(p, "+.3f") for p in back.ravel()] == [number(p, "+.3f") for p in result.p[at].ravel()]
        for name, cosine in (("whitened", result.whitening_cosine), ("plain", result.activation_cosine)):
            degrees = superposition.angles(cosine[at])
            np.testing.assert_allclose(unpacked(layer[name]).reshape(m, m) / 10, degrees, atol=0.05 + 1e-9)
        assert ranking_of(layer, m) == result.ranking(layer["layer"]).tolist()
        bits = np.frombuffer(base64.b64decode(layer["tags"]), np.uint8)
        named = [[tag for bit, tag in enumerate(data["tags"]) if one >> bit & 1] for one in bits]
        every = np.arange(m * m)
        assert named == result.tags(layer["layer"]).names(every // m, every % m)


def test_texts_of_users_are_no_markup(page: str) -> None:
    elements, data = Elements(page), data_of(page)
    assert data["facts"][0]["subject"] == CLOSING
    assert FILE in data["subtitle"]
    assert len(elements.scripts) == 2
    assert "img" not in elements.tags
    assert CLOSING not in page
    assert FILE not in page
    assert "home/someone" not in page, "places of this machine stay here"
    assert data["facts"][2]["subject"] == "%DATA% & %SCRIPT%"
    assert not AS_MARKUP.search("".join((TEMPLATE / name).read_text("utf-8") for name in SCRIPTS))


def test_it_needs_nothing_but_itself_and_runs_nothing_else(page: str) -> None:
    data, script = (text for _, text in Elements(page).scripts)
    (style,) = re.findall(r"<style>(.*?)</style>", page, flags=re.DOTALL)
    assert not LOADS.search(page.replace(data, ""))
    assert set(re.findall(r"https?://[^\"'\s<]+", page.replace(data, ""))) == {
        "https://arxiv.org/abs/2408.07413",  # a link to click
        "http://www.w3.org/2000/svg",  # a name
    }
    script_hash, style_hash = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)
    )
    policy = f"default-src 'none'; script-src 'sha256-{script_hash}'; style-src 'sha256-{style_hash}'"
    assert policy_of(page) == policy


def test_its_colours_are_those_of_the_dashboard(page: str) -> None:
    theme = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text("utf-8"))["theme"]
    for name in ("light", "dark"):
        (rule,) = re.findall(rf":root\[data-theme={name}\]{{(.*?)}}", page)
        own = dict(part.split(":") for part in rule.strip(";").replace("--", "").split(";"))
        assert own["ground"] == theme[name]["backgroundColor"]
        assert [own[colour] for colour in ("blue", "orange", "green")] == theme[name]["chartCategoricalColors"][:3]
        assert data_of(page)["diverging"][name] == theme[name]["chartDivergingColors"]


def test_the_first_pair_is_the_strongest_without_a_tag(tmp_path: Path) -> None:
    result = made(np.array([[[1, 0.9, 0.2], [0.8, 1, 0.1], [0.3, 0.1, 1]]]), subjects=["a", "a", "b"])
    store = Store(tmp_path, gallery="")
    data = contents.contents(result, store)
    assert data["pair"] == [2, 0]
    alone = contents.contents(made(np.ones((1, 1, 1))), store)
    assert (alone["pair"], alone["layers"][0]["density"]) == ([0, 0], None)
    zero_keys = data_of(report.html(made(np.full((1, 3, 3), np.nan)), store))
    assert np.isnan(unpacked(zero_keys["layers"][0]["p"])).all()


def test_what_is_too_large_is_refused_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MOST_ENTRIES", 17)
    assert report.too_large(1, 4) == ""
    with pytest.raises(report.ReportError, match=r"2 layers × 3² facts = 18 entries.*--layers"):
        report.html(hostile(), Store(tmp_path, gallery=""))


def test_its_file_name_is_made_of_plain_letters() -> None:
    assert report.file_name(hostile()) == "superposition-demo-gpt2-128-script-alert-1-csv.html"


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Result, Path]:
    """What comes with the program of a demo model, and the report that the command writes of it."""
    if not FOLDER.is_dir():
        pytest.skip("nothing comes with the program yet; `make gallery` computes it")
    folder = tmp_path_factory.mktemp("shipped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIS_CACHE", str(folder / "cache"))
        patch.setenv("KIS_GALLERY", str(FOLDER))
        assert main(["report", "--model", MODEL, "--out", str(folder / "new" / "report.html")]) == 0
    store = Store(folder / "cache", FOLDER)
    result = pipeline.cached(pipeline.resolve(Request(MODEL), store), store)
    assert result
    return store, result, folder / "new" / "report.html"


def test_the_command_writes_what_is_stored_in_a_file_of_bounded_size(shipped: tuple[Store, Result, Path]) -> None:
    _, result, path = shipped
    assert path.stat().st_size * 12 / len(result.layers) < MOST_BYTES
    data = data_of(path.read_text("utf-8"))
    for layer, one in zip(data["layers"], result.reports, strict=True):
        assert layer["kurtosis"]["all"]["text"].split()[0] == number(one.moments.kurtosis, ".1f")
        assert dict(layer["numbers"]["clean"])["mean"] == number(one.clean_moments.mean)
        assert layer["limit"] == superposition.colour_limit(result.p[result.at(one.layer)])
    assert data["pair"] == pairs.table(result, 0, count=1, tags=["no tag"])[["i", "j"]].to_numpy()[0].tolist()
    options = "--facts builtin --corpus builtin --tokens 100000 --out report.html"
    assert data["command"] == f"python -m kis_core report --model {MODEL} {options}"
    assert dict(data["origin"])["shipped with the program"] == result.provenance[archive.SHIPPED]


def test_edits_show_forecast_beside_measurement(shipped: tuple[Store, Result, Path]) -> None:
    store, result, path = shipped
    bench = without_model(result, store)
    expected = sorted(gallery.told_edits(bench), key=lambda edit: (edit.layer, edit.fact))
    found = data_of(path.read_text("utf-8"))["edits"]
    assert [(edit["fact"], edit["layer"], edit["target"]) for edit in found] == [
        (edit.fact, edit.layer, edit.target) for edit in expected
    ]
    for edit, request in zip(found, expected, strict=True):
        forecast, outcome = bench.forecast(request), bench.perform(request)
        others = {bar["fact"]: bar for bar in edit["bars"]}
        assert set(others) == set(range(len(result.facts))) - {request.fact}
        for j, bar in others.items():
            assert bar["forecast"] == pytest.approx(forecast.all_tokens[j], rel=1e-4)
            assert bar["measured"] == pytest.approx(outcome.measured.log_odds[j], rel=1e-4)
            assert bar["answers"][2] == outcome.measured.answers[j]
        changed = sum(outcome.flipped) - outcome.flipped[request.fact]
        assert (f"{changed} other answer" if changed else "no other answer changes") in edit["headline"]


def test_runs_are_those_of_the_result(shipped: tuple[Store, Result, Path], tmp_path: Path) -> None:
    store, result, path = shipped
    (played,) = data_of(path.read_text("utf-8"))["runs"]
    (item,) = (item for item in store.inventory(edits.RUN) if item.meta["about"]["model"] == MODEL)
    entry = store.get(item.key)
    assert entry
    trace = from_entry(entry)
    assert played["made"] == trace.steps.tolist()
    assert played["values"]["perplexity"] == pytest.approx(trace.perplexity.tolist(), rel=1e-4)
    made_so_far = [edit for step in played["steps"] for edit in step["edits"]]
    assert made_so_far == [f"{edit[0]} → {edit[4]}" for edit in trace.queue]

    own = Store(tmp_path, gallery="")
    of_it, of_another = key_of(edits.RUN, {"n": 1}), key_of(edits.RUN, {"n": 2})
    for key, identity in ((of_it, result.identity), (of_another, "superposition-1")):
        about = entry.meta["about"] | {OF_RESULT: identity, "name": identity}
        own.put(key, entry.meta | {"about": about}, entry.arrays)
    assert [run["name"] for run in edits.runs(without_model(result, own))] == [result.identity]
