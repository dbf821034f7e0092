"""The league of methods: a row by its run and by prompts asked one by one, resuming, and the table by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kis_core import __version__, lifelong, progress
from kis_core.__main__ import WRONG_INPUT, main
from kis_core.editing import DenseEdit, applied
from kis_core.lifelong import Draw, summary
from kis_core.lifelong.sequence import stored
from kis_core.lifelong.sequence_run import SequenceRun
from kis_core.scoring.answers import knows
from kis_core.simulator import Simulator
from kis_core.studies import league, program
from tests.lifelong import lifelong_tools as tools
from tests.studies.study_tools import tables as tables_of

EDITS = (2, 4)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tools.Setting:
    return tools.analysed(tmp_path_factory.mktemp("demo"))


@pytest.fixture
def bench(demo: tools.Setting, tmp_path: Path) -> Simulator:
    return demo.bench(tmp_path / "store")


def rows_of(bench: Simulator, report: progress.Report = progress.silent) -> list[dict[str, Any]]:
    request = tools.asked(bench, edits=EDITS[-1], draw=Draw(seed=1))
    return list(league._measured(bench, request, EDITS, report))


def test_a_row_is_of_its_run_and_of_every_prompt_of_the_edits_so_far(bench: Simulator) -> None:
    rows = rows_of(bench)
    request = tools.asked(bench, edits=EDITS[-1], draw=Draw(seed=1))
    trace, queue = lifelong.run(bench, request), lifelong.draw_queue(bench, request.draw, EDITS[-1], 0)
    known = bench.known_facts
    for row, count in zip(rows, EDITS, strict=True):
        at = trace.at(count)
        assert (row["edits"], row["method"], row["layers"], row["seed"]) == (count, "rome", "0", 1)
        assert row["efficacy"] == trace.took[:count].mean()
        assert row["retention"] == (trace.edited_rank[at, :count] == 1).mean()
        assert row["recall"] == summary.recall(trace)[at]
        assert row["perplexity"] == pytest.approx(trace.perplexity[at], rel=1e-6)
        assert 0 < row["seconds"] < 60
        half = summary.half_life(trace)
        assert (row["half_life"], row["reached"]) == (half.edits, half.reached)
        part = tools.asked(bench, edits=count, draw=Draw(seed=1), every=count)
        assert lifelong.run(bench, part).edits == count
        entry = stored(bench, part)
        assert entry is not None
        change, said, kept = DenseEdit(0, entry.arrays["state.then"][0]), [], []
        subjects = {edit.fact.subject for edit in queue.edits[:count]}
        for edit in queue.edits[:count]:
            others = [fact for fact in known.neighbours(edit.fact).facts if fact.subject not in subjects]
            others = [fact for fact in others if knows(bench.model, [fact])[0]]
            with applied(bench.model, change):
                prompts = [fact.text for fact in known.paraphrases(edit.fact).facts]
                asked = [tools.Fact(text, "{}", edit.target) for text in prompts]
                said.append(np.mean(knows(bench.model, asked)))
                kept += [np.mean(knows(bench.model, others))] if others else []
        assert (row["paraphrase"], row["neighbourhood"]) == (pytest.approx(np.mean(said)), pytest.approx(np.mean(kept)))


def test_stopped_at_any_edit_it_comes_to_the_same(bench: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kis_core.lifelong.sequence_run.SAVED_SECONDS", 0.0)
    usual, edits = SequenceRun._edit, []

    def until_the_fourth(self: SequenceRun, batch: Any) -> None:
        if len(edits) == 3:
            raise progress.Cancelled
        edits.append(batch)
        usual(self, batch)

    monkeypatch.setattr(SequenceRun, "_edit", until_the_fourth)
    with pytest.raises(progress.Cancelled):
        rows_of(bench)
    monkeypatch.setattr(SequenceRun, "_edit", usual)
    again: list[object] = []
    monkeypatch.setattr(SequenceRun, "begin", lambda self: again.append(self))
    resumed = rows_of(bench)
    monkeypatch.undo()
    assert not again, "the two edits that were measured are not made again"
    once_more = rows_of(bench, lambda *_: pytest.fail("all is stored"))
    assert once_more == resumed
    for row in resumed:
        assert math.isfinite(row["seconds"])


def made_up() -> pd.DataFrame:
    def row(name: str, seed: int, life: float, **more: Any) -> dict[str, Any]:
        shares = dict.fromkeys(league.MEASURES, 0.5)
        about = {"model": "m", "layers": "0", "method": name, "seed": seed, "edits": 50, "half_life": life}
        return about | {"reached": True, "commit": "abc"} | shares | {"perplexity": 10.0, "seconds": 0.25} | more

    rows = [
        row("rome", 0, 10.0, recall=0.4, perplexity=10.0),
        row("rome", 1, 40.0, recall=0.6, perplexity=1000.0),
        row("memit", 0, 50.0, reached=False, paraphrase=None, perplexity=None),
    ]
    return pd.DataFrame(rows, columns=list(league.COLUMNS))


def test_the_table_by_hand() -> None:
    text = league.markdown(made_up())
    assert text.startswith("3 runs. Paraphrases and neighbours are those of at most 20 of the edits so far")
    ((title, table),) = tables_of(text).items()
    assert title == "m, layer 0, after 50 edits"
    memit, rome = table
    assert list(memit.values()) == ["MEMIT", "> 50", "50%", "50%", "–", "50%", "50%", "–", "0.25"]
    reach = 12.706204736432095 * np.log(100) / np.sqrt(2) / np.sqrt(2)  # Student's t of one degree
    low, high = (f"{100 * np.exp(sign * reach):.3g}" for sign in (-1, 1))
    assert rome["perplexity"] == f"100 ({low}–{high})"
    assert rome["unrelated kept"] == "50% (0%–100%)", "0.5 ± 1.27, and no share is beyond these"
    assert rome["edits until half is forgotten"].startswith("20 (")
    assert rome["seconds an edit"] == "0.25 (0.25–0.25)"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--edits=50,x", "--edits takes numbers"),
        ("--edits=100,50", "rising numbers"),
        ("--edits=15", "no multiple"),
        ("--methods=guess", "guess"),
    ],
)
def test_wrong_input_is_refused(given: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["league", "--models=demo-gpt2-32", f"--out={tmp_path / 'nothing'}", given]) == WRONG_INPUT
    assert message in capsys.readouterr().err


def test_rows_say_which_commit_made_them(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"ls-files": "__init__.py", "rev-parse": "abc1234", "status": ""}
    monkeypatch.setattr(program, "_said", lambda git, folder, *words: said[words[0]])
    monkeypatch.setattr(program.shutil, "which", lambda name: name)
    actual = []
    for changed in ({}, {"status": " M kis_core/keys.py"}, {"ls-files": ""}):
        said |= changed
        program.made_by.cache_clear()
        actual.append(program.made_by())
    program.made_by.cache_clear()
    assert actual == ["abc1234", "abc1234+", f"v{__version__}"]
