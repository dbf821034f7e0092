"""`python -m kis_core lifelong`: three files of the trace, taken up where it was interrupted, and plain refusals."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from kis_core import lifelong, simulator
from kis_core.__main__ import INTERRUPTED, WRONG_INPUT, ProgressLine, main
from kis_core.analysis import pipeline
from kis_core.lifelong import frames, summary
from kis_core.models.loaded import LoadedModel
from kis_core.request import Request
from kis_core.simulator import Simulator
from kis_core.store.store import Store
from tests.commands.command_tools import strict
from tests.lifelong import lifelong_tools as tools

FILES = ["curve.csv", "facts.csv", "lifelong.json"]
CURVE = (
    "edits,recall,probability,rank,retention,edited_probability,newest_took,dlogodds_measured,dlogodds_subject_token,"
    "dlogodds_all_tokens,dlogodds_renewed,shift_measured,shift_forecast,shift_error,edited_shift_measured,edited_shift_forecast,"
    "edited_shift_error,drift,condition,perplexity"
)
FACTS = (
    "edits,kind,index,subject,answer,age,probability,rank,dlogodds_measured,dlogodds_subject_token,dlogodds_all_tokens,"
    "dlogodds_renewed,shift_measured,shift_forecast"
)
RECORD = [
    "request", "edits_made", "queue", "took", "passed_over", "own_key_instead_of_mean_key",
    "edits_until_half_is_forgotten", "shift_relative_error",
    "forecasts_at_the_end", "perplexity_on", "words", "provenance",
]  # fmt: skip
EDITS = 5
FORMULA = replace(tools.FACTS[7], subject="=SUM(A1)", target="@Norway")
PROGRESS = re.compile(r" *\d+\.\d s  .*")

Refused = Callable[..., str]


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
    options = {
        "model": tools.MODEL, "facts": folder / "facts.csv", "corpus": folder / "corpus.txt", "tokens": tools.TOKENS,
        "layer": 0, "edits": EDITS, "every": 2, "device": "cpu", "out": folder / "out",
    } | changed  # fmt: skip
    return ["lifelong", *(f"--{name}={value}" for name, value in options.items() if value is not None)]


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


@pytest.fixture
def refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run with wrong input; the one line of complaint, whatever progress stood before it."""

    def run(**changed: object) -> str:
        out = tmp_path / "nothing here"
        assert main(arguments(folder, **{"out": out} | changed)) == WRONG_INPUT
        told = capsys.readouterr()
        assert told.out == ""
        [line] = [line for line in told.err.splitlines() if not PROGRESS.fullmatch(line)]
        assert line.startswith("kis_core: ")
        assert not out.exists()
        return line

    return run


class TestFiles:
    def test_are_three_with_these_columns(self, written: Path) -> None:
        assert sorted(path.name for path in written.iterdir()) == sorted(FILES)
        curve, facts = (pd.read_csv(written / name) for name in FILES[:2])
        assert (written / "curve.csv").read_text("utf-8").splitlines()[0] == CURVE
        assert (written / "facts.csv").read_text("utf-8").splitlines()[0] == FACTS
        assert curve["edits"].tolist() == [0, 2, 4, 5]
        assert len(facts) == 4 * 14 + 2 + 4 + 5
        assert list(strict(written / "lifelong.json")) == RECORD

    def test_hold_the_trace(self, written: Path, bench: Simulator) -> None:
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
        assert [step["edits"] for step in record["words"]] == [0, 2, 4, 5]
        assert record["provenance"] == bench.result.provenance

    def test_a_subject_like_a_formula_is_guarded(self, written: Path) -> None:
        with (written / "facts.csv").open(encoding="utf-8", newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if row["index"] == "13"]
        assert {(row["subject"], row["answer"]) for row in rows} == {(f"'{FORMULA.subject}", f"'{FORMULA.target}")}

    def test_again_nothing_is_done_anew(
        self, folder: Path, written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        def refuse(*_: object, **__: object) -> LoadedModel:
            raise AssertionError("a model is loaded")

        monkeypatch.setattr("kis_core.models.loading.load", refuse)
        assert main(arguments(folder, out=tmp_path / "deeper" / "again")) == 0
        told = capsys.readouterr()
        assert told.out.splitlines() == [str(tmp_path / "deeper" / "again" / name) for name in FILES]
        for name in FILES:
            assert (tmp_path / "deeper" / "again" / name).read_bytes() == (written / name).read_bytes()

    def test_interrupted_it_goes_on(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        seen: list[int] = []
        stopped: list[int] = []

        class Stopped(ProgressLine):
            def __call__(self, stage: str, done: int, total: int) -> None:
                if stage == lifelong.STAGE:
                    seen.append(done)
                    if seen.count(4) == 9 and not stopped:  # in the middle of the fifth edit
                        stopped.append(done)
                        raise KeyboardInterrupt
                super().__call__(stage, done, total)

        changed = {"seed": 8, "every": 1}
        monkeypatch.setattr("kis_core.__main__.ProgressLine", Stopped)
        assert main(arguments(folder, out=tmp_path / "out", **changed)) == INTERRUPTED
        assert "what was already computed is kept" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
        first, seen[:] = set(seen), []
        assert main(arguments(folder, out=tmp_path / "out", **changed)) == 0
        assert (first, set(seen)) == ({0, 1, 2, 3, 4}, {4, 5})
        assert pd.read_csv(tmp_path / "out" / "curve.csv")["edits"].tolist() == [0, 1, 2, 3, 4, 5]

    def test_options_reach_the_run(self, folder: Path, tmp_path: Path) -> None:
        changed = {"method": "memit", "layer": "0-1", "batch": 2, "edits": 2, "every": 2, "draw": "relation"}
        assert main(arguments(folder, relations="sport,religion", order="harsh", seed=3, out=tmp_path, **changed)) == 0
        record = strict(tmp_path / "lifelong.json")
        request, draw = record["request"], record["request"]["draw"]
        assert (request["method"], request["layers"], request["batch"]) == ("memit", [0, 1], 2)
        assert (draw["by"], draw["relations"], draw["order"], draw["seed"]) == (
            "relation", ["sport", "religion"], "harsh", 3,
        )  # fmt: skip
        assert {one["relation"] for one in record["queue"]} == {"sport"}


class TestRefusals:
    @pytest.mark.parametrize(
        ("changed", "told"),
        [
            ({"layer": 9}, "layer 9 was not computed"),
            ({"layer": 3}, "layer 3 is the last one"),
            ({"layer": "x"}, "--layer takes a number or a range such as 0-2; found 'x'"),
            ({"layer": "2-0"}, "--layer takes"),
            ({"layer": "0-1-2"}, "--layer takes"),
            ({"layer": ""}, "--layer takes"),
            ({"layer": "0-1"}, "ROME edits one layer; 2 were asked for"),
            ({"batch": 2}, "ROME makes one edit at a time"),
            ({"edits": 0}, "from 1 to 2000 edits"),
            ({"edits": 2000, "draw": "relation", "relations": "sport"}, "can be edited"),
            ({"every": 0}, "measuring every 1 or more edits"),
            ({"draw": "relation", "relations": "shoe size"}, "there is no relation 'shoe size' to edit"),
            ({"facts": "nowhere.csv"}, "nowhere.csv"),
        ],
    )
    def test_one_line(self, refused: Refused, changed: dict[str, object], told: str) -> None:
        assert told in refused(**changed)

    def test_a_file_in_the_place_of_the_folder(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(arguments(folder, out=folder / "facts.csv" / "x")) == WRONG_INPUT
        assert "is a file; --out names a folder" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("changed", "told"),
        [
            ({"method": "guess"}, "invalid choice: 'guess'"), ({"draw": "hand"}, "invalid choice: 'hand'"),
            ({"order": "up"}, "invalid choice: 'up'"), ({"edits": "many"}, "invalid whole number 'many'"),
            ({"seed": -1}, "invalid whole number '-1'; at least 0"),
        ],
    )  # fmt: skip
    def test_choices(
        self, folder: Path, changed: dict[str, object], told: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as stopped:
            main(arguments(folder, **changed))
        assert stopped.value.code == WRONG_INPUT
        said = capsys.readouterr().err
        assert "usage: " in said
        assert f"argument --{next(iter(changed))}: {told}" in said
