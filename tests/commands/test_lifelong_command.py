"""`python -m kis_core lifelong`: files of the trace, taken up where it was interrupted; `budget`: its forecast."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from kis_core import lifelong, simulator
from kis_core.__main__ import INTERRUPTED, WRONG_INPUT, ProgressLine, main
from kis_core.analysis import pipeline
from kis_core.lifelong import budget, frames, summary
from kis_core.request import Request
from kis_core.simulator import Simulator
from kis_core.store.store import Store
from tests.commands.command_tools import strict
from tests.lifelong import lifelong_tools as tools

FILES = ["curve.csv", "facts.csv", "lifelong.json"]
CURVE = (
    "edits,recall,probability,rank,retention,edited_probability,newest_took,dlogodds_measured,dlogodds_subject_token,"
    "dlogodds_all_tokens,dlogodds_renewed,shift_measured,shift_forecast,shift_error,edited_shift_measured,"
    "edited_shift_forecast,edited_shift_error,drift,condition,perplexity,edit_size"
)
FACTS = (
    "edits,kind,index,subject,answer,age,probability,rank,dlogodds_measured,dlogodds_subject_token,dlogodds_all_tokens,"
    "dlogodds_renewed,shift_measured,shift_forecast"
)
RECORD = [
    *("request", "edits_made", "queue", "took", "passed_over", "own_key_instead_of_mean_key"),
    *("edits_until_half_is_forgotten", "growth_exponential_from", "shift_relative_error", "forecasts_at_the_end"),
    *("perplexity_on", "words", "provenance"),
]
EDITS = 3
FORMULA = replace(tools.FACTS[7], subject="=SUM(A1)", target="@Norway")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Facts, a text, and the cache that all tests here share."""
    folder = tmp_path_factory.mktemp("lifelong")
    tools.analysed(folder, chosen=(*tools.FACTS[:13], FORMULA))
    return folder


@pytest.fixture(autouse=True)
def shared_cache(own_cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIS_CACHE", str(folder / "cache"))


def arguments(folder: Path, **changed: object) -> list[str]:
    own = {"model": tools.MODEL, "facts": folder / "facts.csv", "corpus": folder / "corpus.txt"}
    options = own | {"tokens": tools.TOKENS, "layer": 0, "edits": EDITS, "every": 2, "device": "cpu"} | changed
    return ["lifelong", *(f"--{name}={value}" for name, value in options.items())]


@pytest.fixture(scope="module")
def written(folder: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIS_CACHE", str(folder / "cache"))
        assert main(arguments(folder, out=folder / "written")) == 0
    return folder / "written"


@pytest.fixture(scope="module")
def bench(folder: Path) -> Iterator[Simulator]:
    """The simulator that the command used."""
    store = Store(folder / "cache")
    request = Request(tools.MODEL, str(folder / "facts.csv"), str(folder / "corpus.txt"), tools.TOKENS)
    yield simulator.of(pipeline.run(request, store, device="cpu"), store, device="cpu")
    store._index.close()


def test_three_files_with_these_columns(written: Path) -> None:
    assert sorted(path.name for path in written.iterdir()) == sorted(FILES)
    curve, facts = (pd.read_csv(written / name) for name in FILES[:2])
    assert (written / "curve.csv").read_text("utf-8").splitlines()[0] == CURVE
    assert (written / "facts.csv").read_text("utf-8").splitlines()[0] == FACTS
    assert curve["edits"].tolist() == [0, 2, 3]
    assert len(facts) == 3 * 14 + 2 + 3
    assert list(strict(written / "lifelong.json")) == RECORD
    guarded = facts[facts["index"] == 13]
    assert set(guarded["subject"]) == {f"'{FORMULA.subject}"}
    assert set(guarded["answer"]) == {f"'{FORMULA.target}"}


def test_the_files_hold_the_trace(written: Path, bench: Simulator) -> None:
    request = lifelong.ask(bench, 0, "rome", EDITS, every=2)
    trace = lifelong.known(bench, request)
    assert trace is not None, "the command asks for what suits the model"
    curve, facts = (pd.read_csv(written / name) for name in FILES[:2])
    pd.testing.assert_frame_equal(curve, frames.curve(trace), check_dtype=False, rtol=1e-12)
    expected = frames.facts(trace, bench.facts)
    for name in FACTS.split(","):
        if name not in ("subject", "answer"):
            pd.testing.assert_series_equal(facts[name], expected[name], check_dtype=False, rtol=1e-12)
    record = strict(written / "lifelong.json")
    assert record["request"] == request.to_json(bench.scale)
    assert (record["edits_made"], record["took"]) == (EDITS, trace.took.tolist())
    assert record["passed_over"] == []
    assert record["own_key_instead_of_mean_key"] == []
    assert [tuple(one.values()) for one in record["queue"]] == list(trace.queue)
    assert list(record["queue"][0]) == ["subject", "prompt", "target", "relation", "new_target"]
    half = summary.half_life(trace)
    assert record["edits_until_half_is_forgotten"] == (half.edits if half.reached else None)
    errors = record["shift_relative_error"]
    assert (errors["unrelated"], errors["edited"]) == summary.exactness(trace)
    assert record["forecasts_at_the_end"].keys() == {"shift", "subject", "all", "renewed"}
    assert record["perplexity_on"] == trace.text
    assert [step["edits"] for step in record["words"]] == [0, 2, 3]
    assert record["provenance"] == bench.result.provenance


def test_a_budget_is_two_files(folder: Path, bench: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kis_core.lifelong.redraws.REDRAWS", 2)
    monkeypatch.setattr(lifelong, "ask", partial(lifelong.ask, steps=2))
    assert main(["budget", *arguments(folder, out=tmp_path)[1:]]) == 0
    forecast = budget.known(bench, lifelong.ask(bench, 0, "rome", EDITS, every=2))
    assert forecast is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["budget.csv", "budget.json"]
    header = "edits,recall,recall_low,recall_high,log_odds,perplexity,delta_norm"
    assert (tmp_path / "budget.csv").read_text("utf-8").splitlines()[0] == header
    expected = budget.curve(forecast)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "budget.csv"), expected, check_dtype=False, rtol=1e-12)
    record, half = strict(tmp_path / "budget.json"), budget.half_life(forecast)
    told = record["edits_until_half_is_forgotten"]
    assert (told["forecast"], told["low"], told["not_reached_in"]) == (half.middle, half.low, half.unreached)
    assert (told["high"] is None) == bool(half.unreached)
    assert (record["pilots"]["searches"], record["pilots"]["after_edits"]) == (3, [0, 0, 0])
    assert record["seconds"] > 0


def test_budgets_of_several_runs_are_compared(
    folder: Path, bench: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kis_core.lifelong.redraws.REDRAWS", 2)
    monkeypatch.setattr(lifelong, "ask", partial(lifelong.ask, steps=1))
    command = ["budget", *(part for part in arguments(folder, out=tmp_path)[1:] if not part.startswith("--layer"))]
    assert main([*command, "--layers=0,1", "--methods=rome"]) == 0
    frame = pd.read_csv(tmp_path / "compared.csv")
    assert frame[["model", "layers", "method"]].to_numpy().tolist() == [[tools.MODEL, n, "rome"] for n in (0, 1)]
    for layer, middle in zip(frame["layers"], frame["forecast"], strict=True):
        forecast = budget.known(bench, lifelong.ask(bench, int(layer), "rome", EDITS, every=2))
        assert forecast is not None
        assert middle == pytest.approx(budget.half_life(forecast).middle, rel=1e-12)
    told = capsys.readouterr().out
    assert "Of these, " in told
    assert "| layer 1 " in told
    assert (tmp_path / "compared.md").read_text("utf-8").split("\n")[0] in told


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "--layers takes several"),
        (["--layer=0", "--layers=0,1"], "--layers takes several"),
        (["--layers=0,x"], "found 'x'"),
        (["--layer=0", "--methods=rome,guess"], "guess"),
        (["--layer=0", "--methods=rome,fine-tuning"], "searches for no value"),
        (["--layer=0", "--draws=most,guess"], "guess"),
        (["--layers=0,1", "--why"], "--why is of one run"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_worked_out(
    given: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["budget", "--model=absent", f"--out={tmp_path / 'nothing'}", *given]) == WRONG_INPUT
    assert message in capsys.readouterr().err


@pytest.mark.stress
def test_interrupted_it_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[int] = []
    stopped: list[int] = []

    class Stopped(ProgressLine):
        def __call__(self, stage: str, done: int, total: int) -> None:
            if stage == lifelong.STAGE:
                seen.append(done)
                if seen.count(2) == 9 and not stopped:  # in the middle of the third edit
                    stopped.append(done)
                    raise KeyboardInterrupt
            super().__call__(stage, done, total)

    changed = {"seed": 8, "every": 1, "edits": 3}
    monkeypatch.setattr("kis_core.__main__.ProgressLine", Stopped)
    assert main(arguments(folder, out=tmp_path / "out", **changed)) == INTERRUPTED
    assert "what was already computed is kept" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    first, seen[:] = set(seen), []
    assert main(arguments(folder, out=tmp_path / "out", **changed)) == 0
    assert (first, set(seen)) == ({0, 1, 2}, {2, 3})
    assert pd.read_csv(tmp_path / "out" / "curve.csv")["edits"].tolist() == [0, 1, 2, 3]


@pytest.mark.stress
def test_options_reach_the_run(folder: Path, tmp_path: Path) -> None:
    changed = {"method": "memit", "layer": "0-1", "batch": 2, "edits": 2, "every": 2, "draw": "relation"}
    given = arguments(folder, relations="sport,religion", order="harsh", seed=3, steps=4, out=tmp_path, **changed)
    assert main([*given, "--nas"]) == 0
    record = strict(tmp_path / "lifelong.json")
    request, draw = record["request"], record["request"]["draw"]
    assert (request["method"], request["layers"], request["batch"]) == ("memit", [0, 1], 2)
    assert (request["hyperparameters"]["steps"], request["hyperparameters"]["nas"]) == (4, True)
    assert (draw["by"], draw["relations"]) == ("relation", ["sport", "religion"])
    assert (draw["order"], draw["seed"]) == ("harsh", 3)
    assert {one["relation"] for one in record["queue"]} == {"sport"}
